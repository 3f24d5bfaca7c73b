/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "netbuf/queue.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct queue_chunk {
	struct queue_chunk *next;
	uint32_t start, end; /* frames lie in data[start, end) */
	uint8_t data[];
};

_Static_assert(sizeof(struct queue_frame) % 8 == 0, "frames stay aligned one behind the other");

#define CHUNK_ROOM (QUEUE_CHUNK - (uint32_t)sizeof(struct queue_chunk))

static struct queue_chunk *chunk_get(struct queue *q)
{
	struct queue_chunk *c = q->spare;
	if (c) {
		q->spare = c->next;
		q->n_spare--;
	} else {
		c = malloc(QUEUE_CHUNK);
		if (!c)
			return NULL;
	}
	c->next = NULL;
	c->start = c->end = 0;
	return c;
}

static void chunk_put(struct queue *q, struct queue_chunk *c)
{
	if (q->n_spare >= QUEUE_SPARES) {
		free(c);
		return;
	}
	c->next = q->spare;
	q->spare = c;
	q->n_spare++;
}

static struct queue_frame *frame_at(struct queue_chunk *c, uint32_t off)
{
	return (struct queue_frame *)(void *)(c->data + off);
}

int queue_push(struct queue *q, uint64_t epoch, size_t nic, const struct iovec *iov, int n_iov)
{
	size_t len = 0;
	for (int i = 0; i < n_iov; i++)
		len += iov[i].iov_len;
	if (len > QUEUE_FRAME_MAX)
		return -EMSGSIZE;
	/* Else an epoch could leave before the one in front of it. */
	assert(!q->frames || epoch >= q->newest);
	uint32_t cost = (uint32_t)queue_cost(len);
	struct queue_chunk *c = q->tail;
	if (!c || CHUNK_ROOM - c->end < cost) {
		c = chunk_get(q);
		if (!c)
			return -ENOMEM;
		if (q->tail)
			q->tail->next = c;
		else
			q->head = c;
		q->tail = c;
	}
	struct queue_frame *f = frame_at(c, c->end);
	*f = (struct queue_frame){.epoch = epoch, .len = (uint32_t)len, .nic = (uint16_t)nic};
	uint8_t *p = f->data;
	for (int i = 0; i < n_iov; i++) {
		memcpy(p, iov[i].iov_base, iov[i].iov_len);
		p += iov[i].iov_len;
	}
	c->end += cost;
	assert(c->end <= CHUNK_ROOM);
	q->bytes += cost;
	q->frames++;
	q->newest = epoch;
	return 0;
}

struct queue_frame *queue_head(struct queue *q)
{
	return q->frames ? frame_at(q->head, q->head->start) : NULL;
}

void queue_pop(struct queue *q)
{
	assert(q->frames);
	struct queue_chunk *c = q->head;
	uint32_t cost = (uint32_t)queue_cost(frame_at(c, c->start)->len);
	assert(c->start + cost <= c->end && q->bytes >= cost);
	c->start += cost;
	q->bytes -= cost;
	q->frames--;
	assert((q->frames == 0) == (q->bytes == 0));
	if (c->start < c->end)
		return;
	q->head = c->next;
	if (!q->head)
		q->tail = NULL;
	chunk_put(q, c);
}

uint64_t queue_clear(struct queue *q)
{
	uint64_t n = q->frames;
	while (q->head) {
		struct queue_chunk *c = q->head;
		q->head = c->next;
		chunk_put(q, c);
	}
	q->tail = NULL;
	q->bytes = 0;
	q->frames = 0;
	return n;
}

void queue_set_free(struct queue *q)
{
	for (struct queue_chunk *c = q->head; c; c = c->next)
		for (uint32_t o = c->start; o < c->end;) {
			frame_at(c, o)->epoch = QUEUE_FREE_TO_GO;
			o += (uint32_t)queue_cost(frame_at(c, o)->len);
		}
	q->newest = QUEUE_FREE_TO_GO;
}

void queue_destroy(struct queue *q)
{
	queue_clear(q);
	while (q->spare) {
		struct queue_chunk *c = q->spare;
		q->spare = c->next;
		free(c);
	}
	q->n_spare = 0;
}
