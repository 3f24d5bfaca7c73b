/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What both directions of a stream stand on: messages out, completions in, waiting for them.
 *
 * The two belong together, because each direction also does the other's work: whoever collects
 * completions takes what the peer sent into the stream, and gives the peer credit for it.
 */
#include "common/rdma/stream-private.h"

#include "common/clock.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>

void stream_poke(struct rd_stream *s)
{
	for (int i = 0; i < 2; i++)
		if (s->waiting[i])
			eventfd_write(s->poke[i], 1);
}

bool stream_may_send(const struct rd_stream *s, bool data)
{
	uint32_t keep = data ? RESERVE : 0;
	return s->sent - s->done < RD_SLOTS - keep && s->allowed - s->sent > keep;
}

int stream_post_message(
	struct rd_stream *s, struct rd_control m, struct ibv_send_wr *chain, unsigned writes)
{
	uint32_t slot = s->sent % RD_SLOTS;
	/* There is a receive for it at the peer, and a slot here that no SEND is reading. */
	assert(stream_may_send(s, m.type != RD_CREDIT));
	assert(s->told_freed <= s->freed && s->freed <= s->landed);
	assert(m.type != RD_INLINE || m.length <= RD_SLOT_SIZE - RD_CONTROL_SIZE);
	m.freed = s->freed;
	m.posted = s->posted;
	rd_put_control(send_slot(s, slot), &m);
	struct ibv_sge sge = {
		.addr = (uintptr_t)send_slot(s, slot),
		.length = RD_CONTROL_SIZE + (m.type == RD_INLINE ? m.length : 0),
		.lkey = s->c->fixed_mr->lkey,
	};
	struct ibv_send_wr send = {
		.wr_id = RD_WR(RD_WR_SEND, s->sent),
		.sg_list = &sge,
		.num_sge = 1,
		.opcode = IBV_WR_SEND,
		.send_flags = IBV_SEND_SIGNALED,
	};
	struct ibv_send_wr *bad;
	if (writes)
		chain[writes - 1].next = &send;
	int r = ibv_post_send(s->c->id->qp, writes ? chain : &send, &bad);
	if (r)
		return rd_conn_lose(s->c, -r, MC_ECLASS_FAILED,
			"an RDMA message cannot be posted: %s", strerror(r));
	assert(s->bounce_used >= s->bounce_free && s->bounce_used - s->bounce_free <= RD_BOUNCE);
	s->slot_bounce[slot] = s->bounce_used;
	s->sent++;
	s->told_freed = s->freed;
	s->told_posted = s->posted;
	return 0;
}

void stream_credit(struct rd_stream *s)
{
	bool due = s->freed - s->told_freed >= s->c->region_size / 4 ||
		   s->posted - s->told_posted >= RD_SLOTS / 2;
	if (due && !s->c->broken.code && s->c->id->qp && stream_may_send(s, false))
		stream_post_message(s, (struct rd_control){.type = RD_CREDIT}, NULL, 0);
}

void stream_repost(struct rd_stream *s, uint32_t slot)
{
	if (s->c->id->qp && !s->c->broken.code && rd_conn_post_recv(s->c, slot) == 0)
		s->posted++;
}

static void add_item(struct rd_stream *s, const struct rd_control *m, uint32_t slot)
{
	bool placed = m->type == RD_PLACED;
	struct item *last = &s->items[(s->first + s->n_items - 1) % ITEMS];
	if (placed && s->n_items && last->placed) {
		last->length += m->length;
		return;
	}
	assert(s->n_items < ITEMS);
	s->items[(s->first + s->n_items++) % ITEMS] =
		(struct item){.placed = placed, .slot = slot, .length = m->length};
}

/* Nothing that the peer counts can be right by itself only: it must fit what we did. */
static bool fits(const struct rd_stream *s, const struct rd_control *m)
{
	if (m->freed < s->peer_freed || m->freed > s->written)
		return false;
	if (m->posted - s->allowed > s->c->peer.slots || m->posted - s->sent > s->c->peer.slots)
		return false;
	return m->type != RD_PLACED || m->length <= s->c->region_size - (s->landed - s->freed);
}

static void take_message(struct rd_stream *s, uint32_t slot, uint32_t size)
{
	struct mc_error err = MC_ERROR_INIT;
	struct rd_control m;
	int r = rd_get_control(recv_slot(s, slot), size, &m, &err);
	if (r == 0 && !fits(s, &m))
		r = mc_error_set(&err, -EPROTO, MC_ECLASS_PROTOCOL,
			"the peer counts what cannot be in its RDMA messages; the connection is "
			"closed");
	if (r < 0) {
		rd_conn_lose(s->c, r, err.cls, "%s", err.msg);
		return;
	}
	s->peer_freed = m.freed;
	s->allowed = m.posted;
	if (m.type != RD_CREDIT)
		add_item(s, &m, slot);
	if (m.type == RD_PLACED)
		s->landed += m.length;
	assert(s->landed - s->freed <= s->c->region_size); /* `fits` has seen to that */
	if (m.type != RD_INLINE)                           /* nobody has to read it */
		stream_repost(s, slot);
}

bool stream_progress(struct rd_stream *s)
{
	struct ibv_wc wc;
	bool any = false;
	int was = s->c->broken.code;
	while (rd_conn_complete(s->c, &wc)) {
		uint32_t n = (uint32_t)wc.wr_id;
		any = true;
		if (wc.wr_id >> 32 == RD_WR_RECV) {
			take_message(s, n, wc.byte_len);
		} else if (wc.wr_id >> 32 == RD_WR_SEND) {
			/* With it all that was posted before it. */
			s->done = n + 1;
			s->bounce_free = s->slot_bounce[n % RD_SLOTS];
		}
	}
	if (any)
		stream_credit(s);
	if (s->c->broken.code != was)
		any = true;
	if (any)
		stream_poke(s);
	return any;
}

int stream_sleep(struct rd_stream *s, int who, uint64_t deadline, int wake_fd)
{
	struct rd_conn *c = s->c;
	/* In this order: a completion between the last look and the arming would not be heard. */
	if (!c->armed) {
		rd_conn_arm(c);
		if (stream_progress(s))
			return 0;
	}
	struct pollfd p[] = {
		{.fd = s->poke[who], .events = POLLIN},
		{.fd = c->channel->fd, .events = POLLIN},
		{.fd = c->events->fd, .events = POLLIN},
		{.fd = c->socket, .events = POLLIN},
		{.fd = wake_fd, .events = POLLIN},
	};
	int left = mc_ms_left(deadline);
	s->waiting[who] = true;
	pthread_mutex_unlock(&s->lock);
	int r = poll(p, wake_fd >= 0 ? 5 : 4, left);
	pthread_mutex_lock(&s->lock);
	s->waiting[who] = false;
	if (r < 0 && errno != EINTR)
		return -errno;
	if (r == 0 && !left)
		return -ETIMEDOUT;
	if (r <= 0)
		return 0;
	eventfd_t n;
	if (p[0].revents)
		eventfd_read(s->poke[who], &n);
	if (p[1].revents) {
		rd_conn_channel(c);
		/* Armed again at once: the other thread may sleep already, trusting that it is. */
		rd_conn_arm(c);
	}
	stream_progress(s); /* what came before the end that may be next */
	if (p[2].revents)
		rd_conn_events(c);
	if (p[3].revents)
		rd_conn_socket(c);
	if (c->broken.code)
		stream_poke(s);
	return wake_fd >= 0 && p[4].revents ? -EINTR : 0;
}

void rd_stream_cut(struct rd_stream *s)
{
	pthread_mutex_lock(&s->lock);
	stream_progress(s);
	rd_conn_lose(s->c, -ECONNRESET, MC_ECLASS_UNREACHABLE,
		"the RDMA connection was given up here: the peer did not take what was sent in "
		"time");
	rd_conn_stop(s->c);
	stream_poke(s);
	pthread_mutex_unlock(&s->lock);
}
