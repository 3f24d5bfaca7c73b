/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The slab pool.
 *
 * A slab is mapped and populated when it is made and unmapped when it is evicted, never in
 * between: in the VM's pause an append is a memcpy into memory that is already there.
 */
#include "mcd/wire/slab.h"

#include "common/cleanup.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

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
			"no memory for another %u MiB of checkpoint buffer (%zu slabs so far); "
			"lower max-buffer or free memory on this host",
			SLAB_SIZE >> 20, p->stats.total);
	s->mem = mem;
	assert(p->stats.total < p->max); /* nobody asks for one beyond the budget */
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
	assert(p->stats.in_use <= p->stats.total); /* it was one of the free ones */
}

int slab_pool_new(uint64_t budget, const struct slab_hooks *hooks, struct slab_pool **ret,
	struct mc_error *err)
{
	if (budget < 2ull * SLAB_SIZE)
		return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
			"a checkpoint buffer of %" PRIu64
			" bytes is too small; max-buffer must be at least %u MiB",
			budget, 2 * SLAB_SIZE >> 20);
	struct slab_pool *p = calloc(1, sizeof *p);
	if (!p)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "no memory for a slab pool");
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
			"the checkpoint buffer of %zu MiB is full; raise max-buffer if this is "
			"frequent",
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
	assert(p->stats.in_use <= p->stats.total && p->stats.total <= p->max);
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
	/* Or each epoch would unmap what the next one maps again, and copy into cold pages. */
	if (p->need < want - 1)
		p->need = want - 1;
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
	assert(p->stats.in_use && s->used <= SLAB_SIZE);
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
