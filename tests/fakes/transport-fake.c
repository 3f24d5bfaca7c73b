/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two connected ends in one process, for tests: messages pass through the real encoders and
 * decoders as bytes, and a plan says which of them suffers what.
 */
#include "tests/fakes/transport-fake.h"

#include "common/clock.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <xxhash.h>

struct message {
	struct message *next;
	uint64_t due;
	size_t len; /* bytes that arrive, header included; fewer than promised if truncated */
	uint8_t bytes[];
};

struct pair;

struct fake {
	struct transport t;
	struct pair *pair;
	struct transport_stats stats;
	int arrived; /* eventfd: something was put into the inbox, or the other end closed */
	struct message *in, **in_tail;
	struct message *current; /* its payload is still to be read */
	bool broken; /* this end received nonsense: like a real one, it is of no use any more */
};

struct pair {
	pthread_mutex_t lock;
	struct transport_fake_plan plan;
	struct fake ends[2];
	uint64_t posted; /* by end a */
	bool cut;
	unsigned open;
};

static struct fake *fake(struct transport *t)
{
	return (struct fake *)t;
}

static void signal_end(struct fake *f)
{
	uint64_t one = 1;
	ssize_t n = write(f->arrived, &one, sizeof one);
	assert(n == sizeof one);
}

static int gone(int code, struct mc_error *err)
{
	return mc_error_set(err, code, MC_ECLASS_UNREACHABLE, "the peer closed the connection");
}

/* Which faults the plan has for the message that was just counted. */
static void spoil(struct pair *p, struct message *m)
{
	if (p->posted == p->plan.corrupt_at)
		m->bytes[m->len > WIRE_HEADER_SIZE
				 ? WIRE_HEADER_SIZE + (m->len - WIRE_HEADER_SIZE) / 2
				 : WIRE_HEADER_SIZE / 2] ^= 4;
	if (p->posted == p->plan.truncate_at)
		m->len = m->len > WIRE_HEADER_SIZE
				 ? WIRE_HEADER_SIZE + (m->len - WIRE_HEADER_SIZE) / 2
				 : WIRE_HEADER_SIZE / 2;
	if (p->posted == p->plan.cut_after || p->posted == p->plan.truncate_at)
		p->cut = true;
}

static int fake_post(
	struct transport *t, const struct wire_header *h, const void *payload, struct mc_error *err)
{
	struct fake *f = fake(t);
	struct pair *p = f->pair;
	struct fake *other = &p->ends[f == &p->ends[0]];
	struct message *m = malloc(sizeof *m + WIRE_HEADER_SIZE + h->length);
	if (!m)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "no memory for a message");
	*m = (struct message){
		.due = mc_now() + p->plan.delay_ns, .len = WIRE_HEADER_SIZE + h->length};
	wire_put_header(m->bytes, h);
	if (h->length)
		memcpy(m->bytes + WIRE_HEADER_SIZE, payload, h->length);

	pthread_mutex_lock(&p->lock);
	bool lost = p->cut || p->open < 2 || f->broken;
	if (!lost) {
		f->stats.sent_messages++;
		f->stats.sent_bytes += m->len;
		if (f == &p->ends[0]) {
			p->posted++;
			spoil(p, m);
		}
		*other->in_tail = m;
		other->in_tail = &m->next;
		signal_end(other);
		if (p->cut)
			signal_end(f);
	}
	pthread_mutex_unlock(&p->lock);
	if (lost) {
		free(m);
		return gone(-ECONNRESET, err);
	}
	return 0;
}

static int fake_flush(struct transport *t, uint64_t deadline, struct mc_error *err)
{
	return 0; /* post has copied it to the other end */
}

/* The next message into *ret; or 0 and when to look again: at *ret_due, or when more comes. */
static int take(struct fake *f, struct message **ret, uint64_t *ret_due)
{
	struct pair *p = f->pair;
	pthread_mutex_lock(&p->lock);
	struct message *m = f->in;
	int r = 0;
	uint64_t count;
	/* Reset under the lock: what arrives from here on sets it again. */
	ssize_t n = read(f->arrived, &count, sizeof count);
	(void)n;
	if (m && m->due <= mc_now()) {
		f->in = m->next;
		if (!f->in)
			f->in_tail = &f->in;
		*ret = m;
		r = 1;
	} else if (m) {
		*ret_due = m->due;
	} else if (p->cut || p->open < 2) {
		r = -ENODATA;
	}
	pthread_mutex_unlock(&p->lock);
	return r;
}

static int next_message(struct fake *f, struct message **ret, uint64_t deadline, int wake_fd)
{
	for (;;) {
		uint64_t due = UINT64_MAX;
		struct pollfd fds[2] = {{f->arrived, POLLIN, 0}, {wake_fd, POLLIN, 0}};
		if (wake_fd >= 0 && poll(&fds[1], 1, 0) > 0)
			return -EINTR;
		int r = take(f, ret, &due);
		if (r)
			return r < 0 ? r : 0;
		if (mc_now() >= deadline)
			return -ETIMEDOUT;
		poll(fds, wake_fd >= 0 ? 2 : 1, mc_ms_left(due < deadline ? due : deadline));
	}
}

static int fake_recv(struct transport *t, struct wire_header *ret, uint64_t deadline, int wake_fd,
	struct mc_error *err)
{
	struct fake *f = fake(t);
	assert(!f->current); /* the caller left a payload in the stream */
	if (f->broken)
		return gone(-ECONNRESET, err);
	struct message *m;
	int r = next_message(f, &m, deadline, wake_fd);
	if (r == -ENODATA)
		return gone(r, err);
	if (r < 0)
		return mc_error_set(
			err, r, MC_ECLASS_TIMEOUT, "nothing came from the peer in time");
	struct wire_header h;
	if (m->len < WIRE_HEADER_SIZE)
		r = gone(-ECONNRESET, err);
	else
		r = wire_get_header(m->bytes, &h, err);
	if (r == 0) {
		f->stats.received_messages++;
		f->stats.received_bytes += m->len;
		*ret = h;
		if (h.length) {
			f->current = m;
			return 0;
		}
	}
	f->broken = r < 0;
	free(m);
	return r;
}

static int fake_recv_payload(
	struct transport *t, void *buf, uint64_t deadline, struct mc_error *err)
{
	struct fake *f = fake(t);
	struct message *m = f->current;
	struct wire_header h;
	if (!m)
		return 0;
	f->current = NULL;
	int r = wire_get_header(m->bytes, &h, err);
	assert(r == 0);
	size_t len = m->len - WIRE_HEADER_SIZE;
	memcpy(buf, m->bytes + WIRE_HEADER_SIZE, len);
	free(m);
	f->broken = len < h.length || XXH3_64bits(buf, len) != h.digest;
	if (len < h.length)
		return gone(-ECONNRESET, err);
	if (f->broken)
		return mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
			"the %zu bytes of a message of type %u do not match their digest", len,
			h.type);
	return 0;
}

static void fake_stats(struct transport *t, struct transport_stats *ret)
{
	*ret = fake(t)->stats;
}

static void fake_close(struct transport *t)
{
	struct fake *f = fake(t);
	struct pair *p = f->pair;
	pthread_mutex_lock(&p->lock);
	signal_end(&p->ends[f == &p->ends[0]]);
	bool last = --p->open == 0;
	pthread_mutex_unlock(&p->lock);
	if (!last)
		return; /* the other end may still read what arrived */
	for (int i = 0; i < 2; i++) {
		for (struct message *m = p->ends[i].in, *next; m; m = next) {
			next = m->next;
			free(m);
		}
		free(p->ends[i].current);
		close(p->ends[i].arrived);
	}
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static const struct transport_ops fake_ops = {
	.name = "fake",
	.post = fake_post,
	.flush = fake_flush,
	.push = fake_flush,
	.recv = fake_recv,
	.recv_payload = fake_recv_payload,
	.stats = fake_stats,
	.close = fake_close,
};

int transport_fake_pair(const struct transport_fake_plan *plan, struct transport **ret_a,
	struct transport **ret_b, struct mc_error *err)
{
	struct pair *p = calloc(1, sizeof *p);
	if (!p)
		return mc_error_set(
			err, -ENOMEM, MC_ECLASS_MEMORY, "no memory for a fake connection");
	if (plan)
		p->plan = *plan;
	p->open = 2;
	pthread_mutex_init(&p->lock, NULL);
	for (int i = 0; i < 2; i++) {
		struct fake *f = &p->ends[i];
		f->t.ops = &fake_ops;
		f->pair = p;
		f->in_tail = &f->in;
		f->arrived = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	}
	if (p->ends[0].arrived < 0 || p->ends[1].arrived < 0) {
		int code = -errno;
		for (int i = 0; i < 2; i++)
			if (p->ends[i].arrived >= 0)
				close(p->ends[i].arrived);
		free(p);
		return mc_error_set(err, code, MC_ECLASS_FAILED, "no eventfd: %s", strerror(-code));
	}
	*ret_a = &p->ends[0].t;
	*ret_b = &p->ends[1].t;
	return 0;
}
