/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A stream inside: stream.c (its life), stream-send.c and stream-recv.c (the two directions); below
 * them stream-complete.c (what both directions stand on) and memory.c.
 *
 * Everything is guarded by `lock`.  The counters run from the beginning of the connection and never
 * go back; those of messages are modulo 2^32, as on the wire.
 *
 * Why nothing ever finds the peer without a receive, and nobody waits for ever: data is sent
 * only while the peer has more than RESERVE receives posted; a CREDIT may use those too.  A
 * CREDIT is sent when a quarter of the ring or half of the receives were given back since the
 * peer was last told, so that at most six are on their way to a peer that says nothing
 * meanwhile.  It is taken and its receive posted again without anybody reading the stream, as
 * soon as the peer looks, which it does while it waits for credit.
 */
#pragma once
#include "common/rdma/private.h"
#include "common/rdma/stream.h"

#include <pthread.h>

#define RESERVE 8u

enum { SENDING, RECEIVING }; /* who waits */

struct memory {
	uint8_t *mem;
	size_t len;
	struct ibv_mr *mr; /* NULL: not yet */
	bool refused;      /* the device did not take it: copied from now on */
};

struct item {          /* of the stream, received and not read yet */
	bool placed;   /* in the ring, at the place that the ring has come to */
	uint32_t slot; /* else in this one, behind its header */
	uint32_t at;   /* as much of it is read */
	uint64_t length;
};
/* Each slot holds one item at most, and two in the ring that follow each other are one. */
#define ITEMS (2 * RD_SLOTS + 2)

struct rd_stream {
	struct rd_conn *c;
	pthread_mutex_t lock;
	int poke[2]; /* eventfds: what the other thread collected is of interest */
	bool waiting[2];

	uint32_t sent, done, allowed; /* SENDs: posted, completed; receives of the peer */
	uint32_t direct;              /* `done` must come to this before declared memory is free */
	uint64_t written, peer_freed; /* bytes of the peer's ring */
	/* bytes of the bounce buffer: used up to, free again up to */
	uint64_t bounce_used, bounce_free;
	uint64_t slot_bounce[RD_SLOTS]; /* bounce_free once this SEND completed */

	uint32_t posted, told_posted;       /* our receives; what the peer knows of them */
	uint64_t landed, freed, told_freed; /* bytes of our ring */
	struct item items[ITEMS];
	size_t first, n_items;

	struct memory *memory; /* by address */
	size_t n_memory, cap_memory;
};

static inline uint8_t *recv_slot(struct rd_stream *s, uint32_t i)
{
	return s->c->fixed + i * RD_SLOT_SIZE;
}
static inline uint8_t *send_slot(struct rd_stream *s, uint32_t i)
{
	return s->c->fixed + (RD_SLOTS + i) * RD_SLOT_SIZE;
}
static inline uint8_t *bounce(struct rd_stream *s)
{
	return s->c->fixed + 2 * RD_SLOTS * RD_SLOT_SIZE;
}

/* stream-complete.c */

/* Collects completions; true if there was any. */
bool stream_progress(struct rd_stream *s);
/* Waits, unlocked, until there may be something to collect (0), -ETIMEDOUT, -EINTR. */
int stream_sleep(struct rd_stream *s, int who, uint64_t deadline, int wake_fd);
/* Wakes whoever sleeps: there is something to look at. */
void stream_poke(struct rd_stream *s);
/* Whether there is a place for one more SEND here and a receive for it there. */
bool stream_may_send(const struct rd_stream *s, bool data);
/* chain: `writes` requests that go before it. */
int stream_post_message(
	struct rd_stream *s, struct rd_control m, struct ibv_send_wr *chain, unsigned writes);
/* Tells the peer what was given back, if that is enough to matter and there is a way. */
void stream_credit(struct rd_stream *s);
/* The slot was read: the peer may send into it again. */
void stream_repost(struct rd_stream *s, uint32_t slot);

/* memory.c */

/* The registration that covers all of it, NULL: copy it. */
struct ibv_mr *memory_find(struct rd_stream *s, const void *mem, size_t len);
void memory_forget_all(struct rd_stream *s);
