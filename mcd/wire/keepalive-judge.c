/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who is heard, by which of two paths, and who fell silent: the rules are in keepalive.h. */
#include "mcd/wire/keepalive-private.h"

#include <assert.h>
#include <sys/eventfd.h>

uint64_t keepalive_limit(const struct ka_peer *p)
{
	/* A peer configured with a longer interval than ours is slow, not dead. */
	uint64_t theirs = p->interval, ours = p->k->cfg.interval;
	return (theirs > ours ? theirs : ours) * p->k->cfg.misses;
}

uint64_t keepalive_last_heard(const struct ka_peer *p)
{
	return p->ear[p->path].heard;
}

/* --- hearing ---------------------------------------------------------------------------------- */

static void note_gap(struct ka_ear *e, uint64_t gap, uint64_t interval)
{
	uint64_t us = gap > interval ? (gap - interval) / MC_USEC : 0;
	uint32_t v = us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
	/* Each ear has one writer. */
	e->gap_us[e->n_gaps % GAPS] = v;
	e->n_gaps++;
	if (v > e->worst_us)
		e->worst_us = v;
}

void keepalive_hear(struct ka_peer *p, enum ka_path path, uint64_t now, uint64_t last,
	uint64_t interval, uint64_t coarse)
{
	struct ka_ear *e = &p->ear[path];
	if (last)
		note_gap(e, now - last, interval + coarse);
	p->interval = interval;
	e->beats++;
	e->heard = now;
}

/* --- slots ------------------------------------------------------------------------------------ */

_Static_assert(SLOT_SIZE % 8 == 0, "whole words");

/* Word by word, because somebody else writes to it meanwhile. */
static void copy_slot(uint8_t to[SLOT_SIZE], const volatile uint8_t *from)
{
	const volatile uint64_t *v = (const volatile uint64_t *)from;
	for (size_t i = 0; i < SLOT_SIZE / 8; i++)
		((uint64_t *)to)[i] = v[i];
}

void keepalive_look(struct ka_peer *p, uint64_t now)
{
	_Alignas(8) uint8_t buf[SLOT_SIZE];
	struct mc_error err = MC_ERROR_INIT;
	struct beat b;
	/* It is being replaced or taken away: the next look is soon, and waiting is not for us. */
	if (pthread_mutex_trylock(&p->slot_lock))
		return;
	struct ka_slot *s = &p->slot;
	int r = 0;
	if (s->mem) {
		copy_slot(buf, s->mem);
		r = slot_decode(buf, s->instance, &s->prev, &b, &err);
	}
	if (r < 0) {
		s->given_up = s->mem;
		s->over = err;
		s->mem = NULL;
		p->slot_shown = false;
		eventfd_write(s->leave, 1);
	}
	if (r > 0 && s->instance == p->instance) {
		assert(b.seq > s->prev.seq && b.time >= s->prev.time && now >= s->last);
		keepalive_hear(p, KA_RDMA, now, s->last, b.interval, p->k->cfg.interval / LOOKS);
		p->rdma_instance = s->instance;
		p->path = KA_RDMA;
		p->trust_after = 0;
		s->prev = b;
		s->last = now;
	}
	pthread_mutex_unlock(&p->slot_lock);
}

/* --- judging ---------------------------------------------------------------------------------- */

uint64_t keepalive_suspicious_at(const struct ka_peer *p)
{
	uint64_t heard = keepalive_last_heard(p);
	return (heard ? heard : p->k->started + FIRST_CONTACT) + keepalive_limit(p);
}

static void suspect(struct ka_peer *p, uint64_t now)
{
	struct keepalive_config *cfg = &p->k->cfg;
	uint64_t heard = keepalive_last_heard(p);
	assert(!p->suspected);
	bool fall_back = p->path == KA_RDMA && cfg->mode != RD_RDMA;
	p->announced = false;
	p->suspected = true;
	if (fall_back) {
		p->trust_after = now + keepalive_limit(p);
		p->path = KA_TCP;
	}
	p->lost_heard = heard;
	atomic_fetch_or(&p->news, KA_LOST | KA_LOST_LAST | (fall_back ? KA_FELL_BACK : 0));
	eventfd_write(p->k->news, 1);
}

static void heard_again(struct ka_peer *p)
{
	p->suspected = false;
	p->announced = true;
	unsigned was = p->news;
	/* The only other writer takes all of it. */
	while (!atomic_compare_exchange_weak(
		&p->news, &was, (was | KA_BACK) & ~(unsigned)KA_LOST_LAST))
		;
	eventfd_write(p->k->news, 1);
}

void keepalive_judge(struct ka_peer *p, uint64_t now, uint64_t mercy)
{
	/* What the dead process wrote last says nothing of the one that has connected since. */
	if (p->path == KA_RDMA && p->rdma_instance != p->instance)
		p->path = KA_TCP;
	uint64_t heard = keepalive_last_heard(p);
	bool silent = keepalive_suspicious_at(p) <= now;
	if (silent && !p->suspected && mercy <= now) {
		suspect(p, now);
	} else if (!silent && heard && heard >= p->trust_after && !p->announced) {
		heard_again(p);
	}
}
