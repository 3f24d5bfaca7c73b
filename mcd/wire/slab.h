/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Checkpoint data lives in slabs of about 5 MiB: grown when an epoch needs more, evicted after
 * epochs that need less, never beyond the budget.  A slab is the unit of sending, of digest (XXH3)
 * and of back-pressure, and of RDMA registration (the register/unregister hooks).
 */
#pragma once
#include "common/error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SLAB_SIZE (5u << 20)

struct slab {
	uint8_t *mem;      /* SLAB_SIZE bytes, page aligned */
	size_t used;       /* bytes filled */
	uint64_t digest;   /* XXH3-64 of mem[0..used), set by slab_seal */
	struct slab *next; /* lists of whoever holds it */
	void *reg;         /* its owner's, for what registering it gave */
};

struct slab_hooks { /* may be all NULL */
	int (*reg)(void *ctx, struct slab *s, struct mc_error *err);
	void (*unreg)(void *ctx, struct slab *s);
	void *ctx;
	bool keep; /* slabs stay once they exist: nothing is evicted that the budget allows */
};

struct slab_stats {
	/* slabs: that exist, that are handed out, the most that existed under the present budget */
	size_t total, in_use, peak;
	uint64_t grown, evicted, refused;
};

/* Thread-safe (a slab itself belongs to whoever holds it). */
struct slab_pool;
/* budget: bytes that all slabs together may take (rounded down to slabs, at least 2). */
int slab_pool_new(uint64_t budget, const struct slab_hooks *hooks, struct slab_pool **ret,
	struct mc_error *err);
void slab_pool_free(struct slab_pool *p); /* all slabs must be back */
/* Changes the budget of a pool in use, rounded as above.  What is too much goes back to the
 * system at once if it is free, else when it comes back (slab_put). */
void slab_pool_set_budget(struct slab_pool *p, uint64_t budget);
/* A clean slab, or -ENOBUFS at the budget (never blocks), -ENOMEM. */
int slab_get(struct slab_pool *p, struct slab **ret, struct mc_error *err);
void slab_put(struct slab_pool *p, struct slab *s);
/* Grows the pool, within its budget, to hold this much: called while the guest runs, so that it
 * does not wait for pages to be zeroed while it is stopped. */
void slab_pool_reserve(struct slab_pool *p, uint64_t bytes);
/* Call once per epoch, while the VM runs: slabs that the last 64 epochs did not need go back to the
 * system, and one more than they needed is kept ready, so that a slightly larger epoch finds its
 * memory in the pause without asking the kernel. */
void slab_pool_epoch(struct slab_pool *p);
void slab_get_stats(const struct slab_pool *p, struct slab_stats *ret);

/* A slab's payload is a sequence of records (slab-ranges.c) each followed by its bytes.  Appends
 * as much of mem[0..len) as fits, whole pages; returns what it took (0: full). */
size_t slab_append(struct slab *s, uint32_t block, uint64_t off, const uint8_t *mem, size_t len);
/* Appends a range of zeroes (no data); 1 = taken, 0 = full. */
int slab_append_zero(struct slab *s, uint32_t block, uint64_t off, uint64_t len);
void slab_seal(struct slab *s);

/* Walks a received slab, checking every field against the layout; calls fn for each range (mem
 * NULL: zeroes).  -EBADMSG with the reason (class ProtocolError) on any nonsense; then nothing is
 * known of how many fn calls happened, so validate first with fn = NULL. */
typedef void (*slab_range_fn)(
	void *ctx, uint32_t block, uint64_t off, const uint8_t *mem, uint64_t len);
int slab_walk(const struct slab *s, const uint64_t *block_sizes, size_t n_blocks, slab_range_fn fn,
	void *ctx, struct mc_error *err);
