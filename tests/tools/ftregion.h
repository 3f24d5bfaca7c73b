/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's memory checker: a region that is rewritten page by page, round and round, at a chosen
 * rate, and in which every page says what it must contain.
 *
 * All pages before the writer's cursor are of lap + 1, all others of lap; every word of a page
 * follows from its number and lap.  A page that is missing from a checkpoint is then of an older
 * lap, one from the future of a newer one, and a torn one is neither.  The writer looks at each
 * page before it overwrites it, so that no damage is wiped out before ftregion_check() sees it.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ftregion {
	uint64_t *mem;
	uint64_t pages;
	uint64_t lap, cursor;
	uint64_t written;                       /* pages written since the first fill */
	uint64_t bad;                           /* damaged pages that the writer came across */
	uint64_t bad_page, bad_want, bad_found; /* the first of them */
	/* rate: `per_period` pages each `period` ns, spread evenly */
	uint64_t per_period, period;
	uint64_t start, due; /* the rate's own clock: due pages were due since start */
};

/* Maps and fills the region. False: not enough memory. */
bool ftregion_init(
	struct ftregion *r, uint64_t bytes, uint64_t dirty_bytes, uint64_t period_ns, uint64_t now);

/* Another rate from now on. */
void ftregion_set_rate(struct ftregion *r, uint64_t dirty_bytes, uint64_t now);

/* Writes at most `max` of the pages that are due by now. Returns how many are still due. */
uint64_t ftregion_write_due(struct ftregion *r, uint64_t now, uint64_t max);

/* Verifies every word of every page and renders the answer's part after "CHECK ". True: all
 * good. */
bool ftregion_check(const struct ftregion *r, char *text, size_t size);
