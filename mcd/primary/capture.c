/* SPDX-License-Identifier: GPL-2.0-or-later */
/* COPY: dirty pages into slabs, and slabs onto the wire. */
#include "mcd/primary/capture.h"

#include "common/clock.h"
#include "common/memory.h"
#include "mcd/primary/peer.h"
#include "mcd/vm/vm.h"

#include <assert.h>
#include <errno.h>

void capture_reset(struct session *s)
{
	for (struct slab *x = s->slabs, *next; x; x = next) {
		next = x->next;
		slab_put(s->pool, x);
	}
	s->slabs = NULL;
	s->slabs_tail = &s->slabs;
}

int capture_post(struct session *s, uint16_t type, struct mc_error *err)
{
	for (struct slab *x = s->slabs; x; x = x->next) {
		slab_seal(x);
		struct wire_header h = {
			.type = type,
			.generation = s->generation,
			.epoch = s->e.n,
			.length = x->used,
			.digest = x->digest,
		};
		int r = peer_post(s, &h, x->mem, err);
		if (r < 0)
			return r;
		wire_epoch_digest_add(&s->e.digest, x->digest, x->used);
		s->e.commit.slabs++;
		s->e.commit.bytes += x->used;
	}
	return 0;
}

/* At the budget: what is copied goes out now, and its slabs come back.  The guest, stopped,
 * waits. */
static int send_early(struct session *s, struct mc_error *err)
{
	int r = capture_post(s, WIRE_SLAB, err);
	if (r == 0)
		r = peer_flush(s, mc_now() + s->timing.ack_overdue, err);
	if (r == 0)
		capture_reset(s);
	return r;
}

static int another_slab(struct session *s, struct slab **ret, struct mc_error *err)
{
	int r = slab_get(s->pool, ret, err);
	if (r == -ENOBUFS && s->slabs) {
		r = send_early(s, err);
		if (r == 0)
			r = slab_get(s->pool, ret, err);
	}
	if (r < 0)
		return r;
	*s->slabs_tail = *ret;
	s->slabs_tail = &(*ret)->next;
	return 0;
}

struct append {
	struct slab *to;
	uint32_t block;
	uint64_t off, len;
	const uint8_t *mem;
	size_t took;
};

static void append(void *arg)
{
	struct append *a = arg;
	a->took = slab_append(a->to, a->block, a->off, a->mem, a->len);
}

int capture_append(struct session *s, struct slab *x, uint32_t block, uint64_t off, uint64_t len,
	size_t *ret_took, struct mc_error *err)
{
	struct append a = {x, block, off, len, s->ram.v[block].map + off, 0};
	if (memory_try(append, &a) < 0)
		return memory_lost(s->vm->name, err);
	*ret_took = a.took;
	return 0;
}

int capture_copy(struct session *s, struct mc_error *err)
{
	struct slab *x = NULL;
	for (size_t i = 0; i < s->list.n; i++) {
		const struct dirty_range *d = &s->list.v[i];
		assert(d->region < s->ram.n && d->off + d->len <= s->ram.v[d->region].size);
		for (uint64_t done = 0; done < d->len;) {
			size_t n = 0;
			int r = x ? capture_append(
					    s, x, d->region, d->off + done, d->len - done, &n, err)
				  : 0;
			if (r == 0 && !n)
				r = another_slab(s, &x, err);
			if (r < 0)
				return r;
			done += n;
		}
	}
	return 0;
}
