// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The checkpoint stream over one byte stream, a socket or an RDMA connection: queueing and batching of
 * what is sent, a small read-ahead for headers, payloads straight into the caller's buffer.
 *
 * Everything that leaves the stream at an unknown place (an error, a deadline in the middle of a
 * message, a wrong digest) breaks the transport for good: nothing after it can be trusted, and the
 * first reason is repeated to whoever asks again.
 */
#include "mcd/wire/transport.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/iov.h"
#include "common/log.h"
#include "mcd/wire/stream-io.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* One sendmsg carries up to this many messages, header and payload each. */
#define BATCH 64

/* Read-ahead: 64 small messages a system call, and little of a slab is copied twice. */
#define READ_AHEAD 4096

/* A payload of so many bytes is sent at once. */
#define EAGER (64u << 10)

/* A payload is hashed in pieces of this size as they arrive, while they are in the cache. */
#define PIECE (256u << 10)

struct message { /* posted, not yet handed to the kernel */
	uint8_t header[WIRE_HEADER_SIZE];
	const void *payload;
	size_t length;
};

struct stream {
	struct transport t;
	struct stream_io *io;
	struct transport_stats stats;
	struct mc_error broken; /* code 0: not broken */
	XXH3_state_t *hash;

	struct message *queue; /* [first, last) */
	size_t first, last, cap;

	/* The sendmsg under way; points into `flying`, as the queue may move meanwhile. */
	bool sending;
	struct msghdr msg;
	struct iovec iov[2 * BATCH];
	struct message flying[BATCH];
	size_t n_flying;

	uint8_t ahead[READ_AHEAD]; /* received and not yet asked for: [ahead_at, ahead_end) */
	size_t ahead_at, ahead_end;
	struct wire_header current; /* its payload is still to be read */
	size_t payload_done;        /* as much of it is in the caller's buffer, and hashed */
};

static struct stream *stream(struct transport *t)
{
	return (struct stream *)t;
}

/* Breaks the transport; `doing` completes "The connection to the peer ... while". */
static int lose(struct stream *t, int code, const char *doing, struct mc_error *err)
{
	struct mc_error e = MC_ERROR_INIT;
	if (code != -ETIMEDOUT && t->io->ops->why && t->io->ops->why(t->io, &e) != -EINVAL) {
		e.code = code;
		mc_error_wrap(&e, "While %s", doing);
		goto lost;
	}
	switch (code) {
	case -ENODATA:
		mc_error_set(&e, code, MC_ECLASS_UNREACHABLE,
			"The peer closed the connection while %s; its own log says why", doing);
		break;
	case -ECONNRESET:
		mc_error_set(&e, code, MC_ECLASS_UNREACHABLE,
			"The connection to the peer was reset while %s; its mcd ended or its host "
			"restarted", doing);
		break;
	case -EHOSTUNREACH:
		mc_error_set(&e, code, MC_ECLASS_UNREACHABLE,
			"The peer became unreachable while %s; check the network between the hosts",
			doing);
		break;
	case -ETIMEDOUT:
		mc_error_set(&e, code, MC_ECLASS_TIMEOUT,
			"The peer did not keep up while %s; the network or the peer is too slow, or "
			"gone", doing);
		break;
	default:
		mc_error_set(&e, code, MC_ECLASS_UNREACHABLE,
			"The connection to the peer failed while %s: %s", doing, strerror(-code));
	}
lost:
	t->broken = e;
	if (err)
		*err = e;
	return code;
}

static int still_broken(struct stream *t, struct mc_error *err)
{
	if (t->broken.code && err)
		*err = t->broken;
	return t->broken.code;
}

/* ---- sending ---- */

static void next_batch(struct stream *t)
{
	size_t n = t->last - t->first, v = 0;
	if (n > BATCH)
		n = BATCH;
	memcpy(t->flying, t->queue + t->first, n * sizeof *t->flying);
	t->first += n;
	if (t->first == t->last)
		t->first = t->last = 0;
	for (size_t i = 0; i < n; i++) {
		struct message *m = &t->flying[i];
		t->iov[v++] = (struct iovec){ m->header, WIRE_HEADER_SIZE };
		if (m->length)
			t->iov[v++] = (struct iovec){ (void *)m->payload, m->length };
	}
	t->msg = (struct msghdr){ .msg_iov = t->iov, .msg_iovlen = v };
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
		t->msg.msg_iov += whole;
		t->msg.msg_iovlen -= whole;
		if (!t->msg.msg_iovlen)
			t->stats.sent_messages += t->n_flying;
	}
}

static int fill(struct stream *t, uint64_t deadline, int wake_fd);

/* Sending failed.  A peer that closes while our data is on its way to it resets the connection, but
 * what it said before that is here and is the reason. */
static int lose_sending(struct stream *t, int r, struct mc_error *err)
{
	_cleanup_free_ uint8_t *buf = malloc(WIRE_CONTROL_MAX);
	struct mc_error theirs = MC_ERROR_INIT;
	struct wire_header h;
	lose(t, r, "sending", err);
	if (r == -ETIMEDOUT || !buf || t->current.length || fill(t, mc_now(), -1) < 0 ||
		wire_get_header(t->ahead + t->ahead_at, &h, NULL) < 0 || h.type != WIRE_ERROR)
		return r;
	t->ahead_at += WIRE_HEADER_SIZE;
	size_t have = t->ahead_end - t->ahead_at;
	if (have > h.length)
		have = h.length;
	memcpy(buf, t->ahead + t->ahead_at, have);
	ssize_t n = 0;
	if (have < h.length)
		n = t->io->ops->recv(t->io, buf + have, h.length - have, true, mc_now(), -1);
	if (n >= 0 && have + (size_t)n == h.length && XXH3_64bits(buf, h.length) == h.digest &&
		wire_get_error(buf, h.length, &theirs, NULL) == 0) {
		mc_error_set(&t->broken, -EREMOTEIO, theirs.cls, "%s", theirs.msg);
		return still_broken(t, err);
	}
	return r;
}

static int stream_post(struct transport *tr, const struct wire_header *h, const void *payload,
	struct mc_error *err)
{
	struct stream *t = stream(tr);
	int r = still_broken(t, err);
	if (r < 0)
		return r;
	if (t->last == t->cap) {
		size_t cap = t->cap ? 2 * t->cap : BATCH;
		struct message *q = realloc(t->queue, cap * sizeof *q);
		if (!q)
			return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY,
				"No memory to queue a message to the peer");
		t->queue = q;
		t->cap = cap;
	}
	struct message *m = &t->queue[t->last++];
	wire_put_header(m->header, h);
	m->payload = payload;
	m->length = h->length;
	/* What is small may wait for the next, where a message of its own costs more than its bytes. */
	if (t->io->ops->rdma && h->length < EAGER)
		return 0;
	r = pump(t, 0);
	return r < 0 && r != -ETIMEDOUT ? lose_sending(t, r, err) : 0;
}

static int stream_flush(struct transport *tr, uint64_t deadline, struct mc_error *err)
{
	struct stream *t = stream(tr);
	int r = still_broken(t, err);
	if (r == 0)
		r = pump(t, deadline);
	if (r < 0 && !t->broken.code)
		r = lose_sending(t, r, err);
	/* The caller may reuse its buffers after this, whatever happened. */
	t->io->ops->send_cancel(t->io);
	t->sending = false;
	return r;
}

static int stream_push(struct transport *tr, uint64_t deadline, struct mc_error *err)
{
	struct stream *t = stream(tr);
	int r = still_broken(t, err);
	if (r == 0)
		r = pump(t, deadline);
	if (r == -ETIMEDOUT && !t->broken.code)
		return mc_error_set(err, r, MC_ECLASS_TIMEOUT, "There is more to be sent");
	return r < 0 && !t->broken.code ? lose_sending(t, r, err) : r;
}

/* ---- receiving ---- */

/* Reads ahead until a whole header is there. */
static int fill(struct stream *t, uint64_t deadline, int wake_fd)
{
	while (t->ahead_end - t->ahead_at < WIRE_HEADER_SIZE) {
		size_t have = t->ahead_end - t->ahead_at;
		memmove(t->ahead, t->ahead + t->ahead_at, have);
		t->ahead_at = 0;
		t->ahead_end = have;
		ssize_t n = t->io->ops->recv(t->io, t->ahead + have, READ_AHEAD - have, false,
			deadline, wake_fd);
		if (n < 0)
			return (int)n;
		if (n == 0)
			return have ? -ECONNRESET : -ENODATA;
		t->ahead_end += (size_t)n;
	}
	return 0;
}

static int stream_recv(struct transport *tr, struct wire_header *ret, uint64_t deadline, int wake_fd,
	struct mc_error *err)
{
	struct stream *t = stream(tr);
	int r = still_broken(t, err);
	if (r < 0)
		return r;
	if (t->current.length) /* given up in the middle of a payload: what follows is not a header */
		return lose(t, -EPROTO, "a message was left half read", err);
	r = fill(t, deadline, wake_fd);
	/* A peer that never stops talking must not keep a wake-up from us: it is told before the
	 * message that came with it, which stays in `ahead` for the next call. */
	if (r == -EINTR || (r == 0 && t->io->woken)) {
		t->io->woken = false;
		return mc_error_set(err, -EINTR, MC_ECLASS_FAILED, "Woken up");
	}
	if (r == -ETIMEDOUT)
		return mc_error_set(err, r, MC_ECLASS_TIMEOUT, "Nothing came from the peer in time");
	if (r < 0)
		return lose(t, r, "waiting for a message", err);

	struct wire_header h;
	r = wire_get_header(t->ahead + t->ahead_at, &h, &t->broken);
	if (r < 0)
		return still_broken(t, err);
	t->ahead_at += WIRE_HEADER_SIZE;
	t->stats.received_messages++;
	t->stats.received_bytes += WIRE_HEADER_SIZE + h.length;
	t->current = h;
	*ret = h;
	return 0;
}

static int stream_recv_payload(struct transport *tr, void *buf, uint64_t deadline, struct mc_error *err)
{
	struct stream *t = stream(tr);
	int r = still_broken(t, err);
	if (r < 0)
		return r;
	size_t len = t->current.length;
	if (!len)
		return 0; /* its digest is the header's business */
	if (!t->payload_done) {
		size_t have = t->ahead_end - t->ahead_at;
		t->payload_done = have < len ? have : len;
		memcpy(buf, t->ahead + t->ahead_at, t->payload_done);
		t->ahead_at += t->payload_done;
		XXH3_64bits_reset(t->hash);
		XXH3_64bits_update(t->hash, buf, t->payload_done);
	}
	while (t->payload_done < len) {
		size_t want = len - t->payload_done < PIECE ? len - t->payload_done : PIECE;
		uint8_t *at = (uint8_t *)buf + t->payload_done;
		ssize_t n = t->io->ops->recv(t->io, at, want, true, deadline, -1);
		if (n > 0) {
			XXH3_64bits_update(t->hash, at, (size_t)n);
			t->payload_done += (size_t)n;
		}
		/* Less than asked for: the deadline, also if bytes drip in.  Or the end, told next time. */
		if (n == -ETIMEDOUT || (n > 0 && (size_t)n < want && mc_now() >= deadline))
			return mc_error_set(err, -ETIMEDOUT, MC_ECLASS_TIMEOUT,
				"Only %zu of %zu bytes of a message came from the peer in time",
				t->payload_done, len);
		if (n <= 0)
			return lose(t, n ? (int)n : -ECONNRESET, "receiving a message", err);
	}
	t->current.length = 0;
	t->payload_done = 0;
	if (XXH3_64bits_digest(t->hash) != t->current.digest) {
		mc_error_set(&t->broken, -EBADMSG, MC_ECLASS_PROTOCOL,
			"The %zu bytes of a message of type %u do not match their digest; they were "
			"damaged on the way, the connection is closed", len, t->current.type);
		return still_broken(t, err);
	}
	return 0;
}

static void stream_stats(struct transport *tr, struct transport_stats *ret)
{
	*ret = stream(tr)->stats;
}

static void stream_close(struct transport *tr)
{
	struct stream *t = stream(tr);
	t->io->ops->send_cancel(t->io);
	t->io->ops->free(t->io);
	XXH3_freeState(t->hash);
	free(t->queue);
	free(t);
}

static int stream_memory(struct transport *tr, void *mem, size_t len, bool now, struct mc_error *err)
{
	struct stream_io *io = stream(tr)->io;
	return io->ops->memory ? io->ops->memory(io, mem, len, now, err) : 0;
}

static void stream_forget(struct transport *tr, void *mem)
{
	struct stream_io *io = stream(tr)->io;
	if (io->ops->memory)
		io->ops->forget(io, mem);
}

#define OPS(carrier)                                                                               \
	{                                                                                          \
		.name = carrier, .post = stream_post, .flush = stream_flush, .push = stream_push,  \
		.recv = stream_recv, .recv_payload = stream_recv_payload, .stats = stream_stats,   \
		.memory = stream_memory, .forget = stream_forget, .close = stream_close,           \
	}

static const struct transport_ops tcp_ops = OPS("tcp"), rdma_ops = OPS("rdma");

int transport_stream_new(struct stream_io *io, struct transport **ret, struct mc_error *err)
{
	struct stream *t = calloc(1, sizeof *t);
	XXH3_state_t *hash = XXH3_createState();
	if (!t || !hash) {
		free(t);
		XXH3_freeState(hash);
		io->ops->free(io);
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "No memory for a connection");
	}
	t->t.ops = io->ops->rdma ? &rdma_ops : &tcp_ops;
	t->io = io;
	t->hash = hash;
	*ret = &t->t;
	return 0;
}

int transport_tcp_new(int fd, struct transport **ret, struct mc_error *err)
{
	_cleanup_close_ int own = fd;
	/* A non-blocking descriptor would make io_uring answer -EAGAIN instead of waiting. */
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0)
		return mc_error_set(err, -errno, MC_ECLASS_FAILED,
			"A connection cannot be used: %s", strerror(errno));
	/* Without it the last, short segment of a checkpoint waits for an ACK.  Fails on a socketpair. */
	int one = 1;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);

	struct stream_io *io;
	int r = tcp_io_uring_new(fd, &io);
	if (r < 0) {
		log_debug("io_uring is not available (%s), using ordinary socket calls", strerror(-r));
		r = tcp_io_plain_new(fd, &io);
	}
	if (r < 0)
		return mc_error_set(err, r, MC_ECLASS_MEMORY, "No memory for a connection");
	mc_steal_fd(&own);
	return transport_stream_new(io, ret, err);
}
