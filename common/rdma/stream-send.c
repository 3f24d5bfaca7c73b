/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The sending direction of a stream.  A message is a SEND with the bytes in it, or a batch: RDMA
 * WRITEs into the peer's ring, unsignalled, and the SEND that announces them, whose completion
 * stands for all of them.
 */
#include "common/rdma/stream-private.h"

#include "common/clock.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define INLINE_MAX (RD_SLOT_SIZE - RD_CONTROL_SIZE) /* what is longer is written into the ring */
#define WRITE_MAX  (128u << 10)

struct source { /* what is still to be sent */
	const struct iovec *iov;
	size_t n, at; /* at: of the first one */
};

static size_t first_length(const struct source *f)
{
	return f->n ? f->iov->iov_len - f->at : 0;
}

static const uint8_t *first_bytes(const struct source *f)
{
	return (const uint8_t *)f->iov->iov_base + f->at;
}

static void advance(struct source *f, size_t n)
{
	assert(n <= first_length(f));
	f->at += n;
	while (f->n && f->at == f->iov->iov_len) {
		f->iov++;
		f->n--;
		f->at = 0;
	}
}

/* Small pieces, as many as fit one SEND. */
static ssize_t post_small(struct rd_stream *s, struct source *f)
{
	uint8_t *to = send_slot(s, s->sent % RD_SLOTS) + RD_CONTROL_SIZE;
	size_t n = 0;
	for (size_t len; (len = first_length(f)) && len <= INLINE_MAX - n; n += len) {
		memcpy(to + n, first_bytes(f), len);
		advance(f, len);
	}
	int r = stream_post_message(
		s, (struct rd_control){.length = (uint32_t)n, .type = RD_INLINE}, NULL, 0);
	return r < 0 ? r : (ssize_t)n;
}

/* One WRITE of at most `len` bytes; returns how many, 0 = no room. */
static uint32_t prepare_write(struct rd_stream *s, const uint8_t *from, size_t len,
	struct ibv_mr *mr, struct ibv_send_wr *wr, struct ibv_sge *sge)
{
	uint64_t ring = s->c->peer.size, at = s->written % ring;
	assert(s->peer_freed <= s->written && s->written - s->peer_freed <= ring);
	uint64_t room = ring - (s->written - s->peer_freed);
	if (len > WRITE_MAX)
		len = WRITE_MAX;
	if (len > room)
		len = room;
	if (len > ring - at)
		len = ring - at;
	if (!mr) {
		uint64_t b = s->bounce_used % RD_BOUNCE,
			 left = RD_BOUNCE - (s->bounce_used - s->bounce_free);
		if (len > left)
			len = left;
		if (len > RD_BOUNCE - b)
			len = RD_BOUNCE - b;
		memcpy(bounce(s) + b, from, len);
		from = bounce(s) + b;
		s->bounce_used += len;
	}
	*sge = (struct ibv_sge){
		(uintptr_t)from, (uint32_t)len, mr ? mr->lkey : s->c->fixed_mr->lkey};
	*wr = (struct ibv_send_wr){
		.wr_id = RD_WR(RD_WR_WRITE, s->sent),
		.sg_list = sge,
		.num_sge = 1,
		.opcode = IBV_WR_RDMA_WRITE,
		.wr.rdma = {.remote_addr = s->c->peer.addr + at, .rkey = s->c->peer.rkey},
	};
	s->written += len;
	assert(s->written - s->peer_freed <= ring);
	return (uint32_t)len;
}

/* A large piece, or the part of it that there is room for; 0 = none. */
static ssize_t post_large(struct rd_stream *s, struct source *f)
{
	struct ibv_send_wr wr[RD_WRITES + 1];
	struct ibv_sge sge[RD_WRITES + 1];
	struct rd_control m = {.type = RD_PLACED};
	struct ibv_mr *mr = memory_find(s, first_bytes(f), first_length(f));
	while (m.repeat < RD_WRITES && m.length < first_length(f)) {
		uint32_t n = prepare_write(s, first_bytes(f) + m.length, first_length(f) - m.length,
			mr, &wr[m.repeat], &sge[m.repeat]);
		if (!n)
			break;
		if (m.repeat)
			wr[m.repeat - 1].next = &wr[m.repeat];
		m.length += n;
		m.repeat++;
	}
	if (!m.repeat)
		return 0;
	int r = stream_post_message(s, m, wr, m.repeat);
	if (r < 0)
		return r;
	if (mr)
		s->direct = s->sent;
	advance(f, m.length);
	return m.length;
}

static ssize_t post_some(struct rd_stream *s, struct source *f)
{
	if (s->c->broken.code)
		return s->c->broken.code;
	if (!stream_may_send(s, true))
		return 0;
	return first_length(f) <= INLINE_MAX ? post_small(s, f) : post_large(s, f);
}

ssize_t rd_stream_post(struct rd_stream *s, const struct iovec *iov, size_t n, uint64_t deadline)
{
	struct source f = {.iov = iov, .n = n};
	size_t put = 0;
	ssize_t r = 0;
	advance(&f, 0); /* over empty pieces */
	pthread_mutex_lock(&s->lock);
	while (f.n && r >= 0) {
		stream_progress(s);
		r = post_some(s, &f);
		if (r > 0)
			put += (size_t)r;
		else if (r == 0 && put)
			break;
		else if (r == 0)
			r = stream_sleep(s, SENDING, deadline, -1);
	}
	pthread_mutex_unlock(&s->lock);
	return put ? (ssize_t)put : r;
}

static int drain_to(struct rd_stream *s, uint32_t mark, uint64_t deadline)
{
	int r = 0;
	while (r == 0) {
		stream_progress(s);
		if ((int32_t)(s->done - mark) >= 0)
			break;
		r = s->c->broken.code ? s->c->broken.code : stream_sleep(s, SENDING, deadline, -1);
	}
	return r;
}

int rd_stream_drain(struct rd_stream *s, uint64_t deadline)
{
	pthread_mutex_lock(&s->lock);
	int r = drain_to(s, s->sent, deadline);
	pthread_mutex_unlock(&s->lock);
	return r;
}

int rd_stream_send(struct rd_stream *s, const struct iovec *iov, size_t n, uint64_t deadline)
{
	struct source f = {.iov = iov, .n = n};
	int r = 0;
	advance(&f, 0);
	while (f.n && r == 0) {
		struct iovec head = {(void *)first_bytes(&f), first_length(&f)};
		/* The rest of a piece by itself, whole ones together. */
		ssize_t put = f.at ? rd_stream_post(s, &head, 1, deadline)
				   : rd_stream_post(s, f.iov, f.n, deadline);
		if (put < 0)
			r = (int)put;
		for (size_t left = put > 0 ? (size_t)put : 0; left;) {
			size_t len = first_length(&f) < left ? first_length(&f) : left;
			advance(&f, len);
			left -= len;
		}
	}
	if (r == 0) {
		pthread_mutex_lock(&s->lock);
		r = drain_to(s, s->direct, deadline);
		pthread_mutex_unlock(&s->lock);
	}
	if (r < 0)
		rd_stream_cut(s);
	return r;
}
