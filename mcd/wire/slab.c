// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The slab pool, and the records in a slab (layout: wire/protocol.c).
 *
 * A slab is mapped and populated when it is made and unmapped when it is evicted, never in
 * between: in the VM's pause an append is a memcpy into memory that is already there.
 */
#include "mcd/wire/slab.h"

#include "common/cleanup.h"
#include "common/le.h"
#include "mcd/wire/protocol.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <xxhash.h>

#define EPOCHS_KEPT 64 /* an epoch's need is remembered this long */

struct slab_pool {
	pthread_mutex_t lock;
	struct slab_hooks hooks;
	size_t max;        /* slabs in the budget */
	struct slab *free; /* last in first out: the newest is warm in the cache */
	struct slab_stats stats;
	size_t need;                 /* most slabs handed out at once in this epoch */
	size_t history[EPOCHS_KEPT]; /* the same of the last epochs */
	size_t epoch;
};

static int slab_new(struct slab_pool *p, struct slab **ret, struct mc_error *err)
{
	_cleanup_free_ struct slab *s = calloc(1, sizeof *s);
	void *mem = MAP_FAILED;
	if (s)
		mem = mmap(NULL, SLAB_SIZE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (mem == MAP_FAILED)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY,
			"No memory for another %u MiB of checkpoint buffer (%zu slabs so far); "
			"lower max-buffer or free memory on this host", SLAB_SIZE >> 20, p->stats.total);
	s->mem = mem;
	if (p->hooks.reg) {
		int r = p->hooks.reg(p->hooks.ctx, s, err);
		if (r < 0) {
			munmap(mem, SLAB_SIZE);
			return r;
		}
	}
	p->stats.grown++;
	if (++p->stats.total > p->stats.peak)
		p->stats.peak = p->stats.total;
	*ret = mc_steal_ptr(s);
	return 0;
}

static void slab_evict(struct slab_pool *p)
{
	struct slab *s = p->free;
	p->free = s->next;
	if (p->hooks.unreg)
		p->hooks.unreg(p->hooks.ctx, s);
	munmap(s->mem, SLAB_SIZE);
	free(s);
	p->stats.total--;
}

int slab_pool_new(uint64_t budget, const struct slab_hooks *hooks, struct slab_pool **ret,
	struct mc_error *err)
{
	if (budget < 2ull * SLAB_SIZE)
		return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
			"A checkpoint buffer of %llu bytes is too small; max-buffer must be at least %u MiB",
			(unsigned long long)budget, 2 * SLAB_SIZE >> 20);
	struct slab_pool *p = calloc(1, sizeof *p);
	if (!p)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "No memory for a slab pool");
	pthread_mutex_init(&p->lock, NULL);
	if (hooks)
		p->hooks = *hooks;
	p->max = budget / SLAB_SIZE;
	*ret = p;
	return 0;
}

void slab_pool_free(struct slab_pool *p)
{
	if (!p)
		return;
	assert(!p->stats.in_use);
	while (p->free)
		slab_evict(p);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static void evict_above(struct slab_pool *p, size_t keep)
{
	while (p->stats.total > keep && p->free) {
		slab_evict(p);
		p->stats.evicted++;
	}
}

void slab_pool_set_budget(struct slab_pool *p, uint64_t budget)
{
	size_t max = budget / SLAB_SIZE;
	pthread_mutex_lock(&p->lock);
	p->max = max < 2 ? 2 : max;
	evict_above(p, p->max);
	p->stats.peak = p->stats.total;
	/* What epochs needed under a larger budget says nothing about this one. */
	for (size_t i = 0; i < EPOCHS_KEPT; i++)
		if (p->history[i] > p->max)
			p->history[i] = p->max;
	pthread_mutex_unlock(&p->lock);
}

static int get_locked(struct slab_pool *p, struct slab **ret, struct mc_error *err)
{
	struct slab *s = p->free;
	if (s) {
		p->free = s->next;
	} else if (p->stats.total >= p->max) {
		p->stats.refused++;
		return mc_error_set(err, -ENOBUFS, MC_ECLASS_MEMORY,
			"The checkpoint buffer of %zu MiB is full; raise max-buffer if this is frequent",
			p->max * SLAB_SIZE >> 20);
	} else {
		int r = slab_new(p, &s, err);
		if (r < 0)
			return r;
	}
	s->used = 0;
	s->digest = 0;
	s->next = NULL;
	if (++p->stats.in_use > p->need)
		p->need = p->stats.in_use;
	*ret = s;
	return 0;
}

int slab_get(struct slab_pool *p, struct slab **ret, struct mc_error *err)
{
	pthread_mutex_lock(&p->lock);
	int r = get_locked(p, ret, err);
	pthread_mutex_unlock(&p->lock);
	return r;
}

void slab_pool_reserve(struct slab_pool *p, uint64_t bytes)
{
	uint64_t want = bytes / SLAB_SIZE + 2;
	pthread_mutex_lock(&p->lock);
	if (want > p->max)
		want = p->max;
	struct slab *s;
	/* Without memory the epoch that needs them gets the error. */
	while (p->stats.total < want && slab_new(p, &s, NULL) == 0) {
		s->next = p->free;
		p->free = s;
	}
	pthread_mutex_unlock(&p->lock);
}

void slab_put(struct slab_pool *p, struct slab *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&p->lock);
	assert(p->stats.in_use);
	p->stats.in_use--;
	s->next = p->free;
	p->free = s;
	evict_above(p, p->max); /* the budget may have become smaller while it was out */
	pthread_mutex_unlock(&p->lock);
}

void slab_pool_epoch(struct slab_pool *p)
{
	pthread_mutex_lock(&p->lock);
	p->history[p->epoch++ % EPOCHS_KEPT] = p->need;
	p->need = p->stats.in_use;
	size_t keep = 0;
	for (size_t i = 0; i < EPOCHS_KEPT; i++)
		if (p->history[i] > keep)
			keep = p->history[i];
	keep = keep < p->max && !p->hooks.keep ? keep + 1 : p->max;
	evict_above(p, keep);
	/* Without memory for the spare one the epoch that needs it gets the error. */
	struct slab *spare;
	if (p->stats.total < keep && slab_new(p, &spare, NULL) == 0) {
		spare->next = p->free;
		p->free = spare;
	}
	pthread_mutex_unlock(&p->lock);
}

void slab_get_stats(const struct slab_pool *p, struct slab_stats *ret)
{
	pthread_mutex_t *lock = (pthread_mutex_t *)&p->lock;
	pthread_mutex_lock(lock);
	*ret = p->stats;
	pthread_mutex_unlock(lock);
}

static void put_range(struct slab *s, uint32_t block, uint32_t flags, uint64_t off, uint64_t len)
{
	uint8_t *p = s->mem + s->used;
	put_le32(p, block);
	put_le32(p + 4, flags);
	put_le64(p + 8, off);
	put_le64(p + 16, len);
	s->used += WIRE_RANGE_SIZE;
}

/* In the VM's pause: no look at the data beyond the one copy. */
size_t slab_append(struct slab *s, uint32_t block, uint64_t off, const uint8_t *mem, size_t len)
{
	assert(len && !(len % WIRE_PAGE_SIZE) && !(off % WIRE_PAGE_SIZE));
	size_t room = SLAB_SIZE - s->used;
	if (room < WIRE_RANGE_SIZE + WIRE_PAGE_SIZE)
		return 0;
	room = (room - WIRE_RANGE_SIZE) & ~(size_t)(WIRE_PAGE_SIZE - 1);
	if (len > room)
		len = room;
	put_range(s, block, 0, off, len);
	memcpy(s->mem + s->used, mem, len);
	s->used += len;
	return len;
}

int slab_append_zero(struct slab *s, uint32_t block, uint64_t off, uint64_t len)
{
	assert(len && !(len % WIRE_PAGE_SIZE) && !(off % WIRE_PAGE_SIZE));
	if (SLAB_SIZE - s->used < WIRE_RANGE_SIZE)
		return 0;
	put_range(s, block, WIRE_RANGE_ZERO, off, len);
	return 1;
}

void slab_seal(struct slab *s)
{
	s->digest = XXH3_64bits(s->mem, s->used);
}

#define refuse(err, at, fmt, ...)                                                                  \
	mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,                                            \
		"The range at byte %zu of a slab " fmt "; nothing of its epoch is applied", at,    \
		##__VA_ARGS__)

/* The range at s->mem + at, all of it checked; `room` is what the slab may still cover in all, so
 * that a few bytes on the wire cannot make us zero the same memory over and over. */
static int get_range(const struct slab *s, size_t at, const uint64_t *sizes, size_t n_blocks,
	uint64_t room, struct wire_range *ret, struct mc_error *err)
{
	if (s->used - at < WIRE_RANGE_SIZE)
		return refuse(err, at, "is cut short");
	const uint8_t *p = s->mem + at;
	struct wire_range r = {
		.block = get_le32(p),
		.flags = get_le32(p + 4),
		.off = get_le64(p + 8),
		.len = get_le64(p + 16),
	};
	if (r.block >= n_blocks)
		return refuse(err, at, "is of block %u, but the VM has %zu", r.block, n_blocks);
	if (r.flags & ~WIRE_RANGE_ZERO)
		return refuse(err, at, "has unknown flags %#x", r.flags);
	if (!r.len || r.len % WIRE_PAGE_SIZE || r.off % WIRE_PAGE_SIZE)
		return refuse(err, at, "is not made of whole pages");
	if (r.off > sizes[r.block] || r.len > sizes[r.block] - r.off)
		return refuse(err, at, "reaches beyond the end of block %u", r.block);
	if (r.len > room)
		return refuse(err, at, "makes it cover more than the whole memory");
	if (!(r.flags & WIRE_RANGE_ZERO) && r.len > s->used - at - WIRE_RANGE_SIZE)
		return refuse(err, at, "has less data than it says");
	*ret = r;
	return 0;
}

int slab_walk(const struct slab *s, const uint64_t *block_sizes, size_t n_blocks, slab_range_fn fn,
	void *ctx, struct mc_error *err)
{
	if (s->used > SLAB_SIZE)
		return mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
			"A slab of %zu bytes is larger than any", s->used);
	uint64_t room = 0;
	for (size_t i = 0; i < n_blocks; i++)
		room += block_sizes[i];
	for (size_t at = 0; at < s->used;) {
		struct wire_range range = { 0 };
		int r = get_range(s, at, block_sizes, n_blocks, room, &range, err);
		if (r < 0)
			return r;
		at += WIRE_RANGE_SIZE;
		room -= range.len;
		bool zero = range.flags & WIRE_RANGE_ZERO;
		if (fn)
			fn(ctx, range.block, range.off, zero ? NULL : s->mem + at, range.len);
		if (!zero)
			at += range.len;
	}
	return 0;
}
