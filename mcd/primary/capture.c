/* SPDX-License-Identifier: GPL-2.0-or-later */
/* COPY: dirty pages into slabs, and slabs onto the wire. */
#include "common/clock.h"
#include "mcd/primary/epoch.h"

#include <errno.h>

void capture_reset(struct epoch *e)
{
	for (struct slab *s = e->slabs, *next; s; s = next) {
		next = s->next;
		slab_put(e->pool, s);
	}
	e->slabs = NULL;
	e->slabs_tail = &e->slabs;
}

int capture_post(struct epoch *e, uint16_t type, struct mc_error *err)
{
	for (struct slab *s = e->slabs; s; s = s->next) {
		slab_seal(s);
		struct wire_header h = {
			.type = type,
			.generation = e->generation,
			.epoch = e->n,
			.length = s->used,
			.digest = s->digest,
		};
		int r = transport_post(e->link, &h, s->mem, err);
		if (r < 0)
			return r;
		wire_epoch_digest_add(&e->digest, s->digest, s->used);
		e->commit.slabs++;
		e->commit.bytes += s->used;
	}
	return 0;
}

/* At the budget: what is copied goes out now, and its slabs come back. The guest, stopped, waits.
 */
static int send_early(struct epoch *e, struct mc_error *err)
{
	int r = capture_post(e, WIRE_SLAB, err);
	if (r == 0)
		r = transport_flush(e->link, mc_now() + e->timing.ack_overdue, err);
	if (r == 0)
		capture_reset(e);
	return r;
}

static int another_slab(struct epoch *e, struct slab **ret, struct mc_error *err)
{
	int r = slab_get(e->pool, ret, err);
	if (r == -ENOBUFS && e->slabs) {
		r = send_early(e, err);
		if (r == 0)
			r = slab_get(e->pool, ret, err);
	}
	if (r < 0)
		return r;
	*e->slabs_tail = *ret;
	e->slabs_tail = &(*ret)->next;
	return 0;
}

int capture_copy(struct epoch *e, struct mc_error *err)
{
	struct slab *s = NULL;
	for (size_t i = 0; i < e->list.n; i++) {
		const struct dirty_range *d = &e->list.v[i];
		const uint8_t *mem = e->ram.v[d->region].map + d->off;
		for (uint64_t done = 0; done < d->len;) {
			size_t n = s ? slab_append(s, d->region, d->off + done, mem + done,
					       d->len - done)
				     : 0;
			if (!n) {
				int r = another_slab(e, &s, err);
				if (r < 0)
					return r;
			}
			done += n;
		}
	}
	return 0;
}
