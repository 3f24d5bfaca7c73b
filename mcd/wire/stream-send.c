/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The sending direction of a stream: queueing, and batching of what is queued. */
#include "mcd/wire/stream-private.h"

#include "common/iov.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A payload of so many bytes is sent at once. */
#define EAGER (64u << 10)

static void next_batch(struct stream *t)
{
	assert(!t->sending && t->first < t->last && t->last <= t->cap);
	size_t n = t->last - t->first, v = 0;
	if (n > BATCH)
		n = BATCH;
	memcpy(t->flying, t->queue + t->first, n * sizeof *t->flying);
	t->first += n;
	if (t->first == t->last)
		t->first = t->last = 0;
	for (size_t i = 0; i < n; i++) {
		struct message *m = &t->flying[i];
		t->iov[v++] = (struct iovec){m->header, WIRE_HEADER_SIZE};
		if (m->length)
			t->iov[v++] = (struct iovec){(void *)m->payload, m->length};
	}
	assert(n <= BATCH && v <= STREAM_IOV_MAX);
	t->msg = (struct msghdr){.msg_iov = t->iov, .msg_iovlen = v};
	t->n_flying = n;
}

/* Sends what is queued, as far as it goes until the deadline; -ETIMEDOUT: there is more. */
static int pump(struct stream *t, uint64_t deadline)
{
	for (;;) {
		if (!t->sending) {
			if (!t->msg.msg_iovlen && t->first == t->last)
				return 0;
			if (!t->msg.msg_iovlen)
				next_batch(t);
			int r = t->io->ops->send_start(t->io, &t->msg);
			if (r < 0)
				return r;
			t->sending = true;
		}
		ssize_t n = t->io->ops->send_finish(t->io, deadline);
		if (n == -ETIMEDOUT)
			return -ETIMEDOUT;
		t->sending = false;
		if (n < 0)
			return (int)n;
		t->stats.sent_bytes += (uint64_t)n;
		size_t whole = mc_iov_advance(t->msg.msg_iov, t->msg.msg_iovlen, (size_t)n);
		assert(whole <= t->msg.msg_iovlen);
		t->msg.msg_iov += whole;
		t->msg.msg_iovlen -= whole;
		if (!t->msg.msg_iovlen)
			t->stats.sent_messages += t->n_flying;
	}
}

/* Sending failed.  A peer that closes while our data is on its way to it resets the connection, but
 * what it said before that is here and is the reason. */
static int lose_sending(struct stream *t, int r, struct mc_error *err)
{
	struct mc_error theirs = MC_ERROR_INIT;
	assert(r < 0);
	stream_lose(t, r, "sending", err);
	if (r == -ETIMEDOUT || !stream_last_words(t, &theirs))
		return r;
	mc_error_set(&t->broken, -EREMOTEIO, theirs.cls, "%s", theirs.msg);
	return stream_still_broken(t, err);
}

int stream_post(struct transport *tr, const struct wire_header *h, const void *payload,
	struct mc_error *err)
{
	struct stream *t = stream(tr);
	int r = stream_still_broken(t, err);
	if (r < 0)
		return r;
	if (t->last == t->cap) {
		size_t cap = t->cap ? 2 * t->cap : BATCH;
		struct message *q = realloc(t->queue, cap * sizeof *q);
		if (!q)
			return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY,
				"no memory to queue a message to the peer");
		t->queue = q;
		t->cap = cap;
	}
	assert(payload || !h->length);
	struct message *m = &t->queue[t->last++];
	wire_put_header(m->header, h);
	m->payload = payload;
	m->length = h->length;
	/* What is small waits for the next where a send costs more than its bytes. */
	if (t->io->ops->rdma && h->length < EAGER)
		return 0;
	r = pump(t, 0);
	return r < 0 && r != -ETIMEDOUT ? lose_sending(t, r, err) : 0;
}

int stream_flush(struct transport *tr, uint64_t deadline, struct mc_error *err)
{
	struct stream *t = stream(tr);
	int r = stream_still_broken(t, err);
	if (r == 0)
		r = pump(t, deadline);
	if (r < 0 && !t->broken.code)
		r = lose_sending(t, r, err);
	assert(r < 0 || (t->first == t->last && !t->msg.msg_iovlen));
	/* The caller may reuse its buffers after this, whatever happened. */
	t->io->ops->send_cancel(t->io);
	t->sending = false;
	return r;
}

int stream_push(struct transport *tr, uint64_t deadline, struct mc_error *err)
{
	struct stream *t = stream(tr);
	int r = stream_still_broken(t, err);
	if (r == 0)
		r = pump(t, deadline);
	if (r == -ETIMEDOUT && !t->broken.code)
		return mc_error_set(err, r, MC_ECLASS_TIMEOUT, "there is more to be sent");
	return r < 0 && !t->broken.code ? lose_sending(t, r, err) : r;
}
