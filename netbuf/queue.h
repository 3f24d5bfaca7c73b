/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Held frames of all NICs in one first-in first-out queue, each with the epoch that it waits for.
 *
 * Epochs never decrease from head to tail.  Frames are packed into large chunks that are reused, so
 * that a frame costs one memcpy and no allocation.  Not thread-safe: the owner locks.
 *
 * Memory: with queue_bytes() <= B, at most B * 16/15 + QUEUE_CHUNK * (1 + QUEUE_SPARES) bytes: a
 * chunk is left behind at most one frame (72 KiB) before its end, the newest chunk may be all but
 * empty, and QUEUE_SPARES empty ones are kept warm.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define QUEUE_CHUNK     (1024u * 1024)
#define QUEUE_SPARES    4
#define QUEUE_FRAME_MAX (72u * 1024) /* vnet header included */

/* epoch of frames that nobody has to wait for any more */
#define QUEUE_FREE_TO_GO 0

struct queue_frame {
	uint64_t epoch;
	uint32_t len;
	uint16_t nic;
	uint16_t reserved;
	uint8_t data[];
};

struct queue_chunk;
struct queue {
	struct queue_chunk *head, *tail, *spare;
	size_t n_spare;
	uint64_t bytes; /* of memory taken by frames, record headers included */
	uint64_t frames;
	uint64_t newest; /* epoch of the tail */
};

/* Appends a frame gathered from iov.  -ENOMEM or -EMSGSIZE (nothing changed then). */
int queue_push(struct queue *q, uint64_t epoch, size_t nic, const struct iovec *iov, int n_iov);
/* The oldest frame, NULL when empty; valid until it is popped. */
struct queue_frame *queue_head(struct queue *q);
void queue_pop(struct queue *q);
/* Removes all frames; returns how many.  Memory beyond the spares is freed. */
uint64_t queue_clear(struct queue *q);
/* Gives all frames the epoch QUEUE_FREE_TO_GO. */
void queue_set_free(struct queue *q);
void queue_destroy(struct queue *q);

/* What a frame of that length adds to q->bytes. */
static inline uint64_t queue_cost(size_t len)
{
	return (sizeof(struct queue_frame) + len + 7) & ~7ull;
}
