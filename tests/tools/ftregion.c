/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A page: word 0 its number, word 1 its lap, words 2..511 seed + i * STEP with seed mixed from
 * both. Writing one costs an add and a store a word: under an emulator more would leave no time
 * to serve.
 */
#include "ftregion.h"
#include <stdio.h>
#include <sys/mman.h>

#define PAGE_BYTES 4096u
#define PAGE_WORDS (PAGE_BYTES / 8)
#define STEP       0x9e3779b97f4a7c15ull

static uint64_t page_seed(uint64_t page, uint64_t lap)
{
	uint64_t z = page * STEP ^ (lap + 1) * 0xbf58476d1ce4e5b9ull;

	z = (z ^ (z >> 30)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static uint64_t *page_at(const struct ftregion *r, uint64_t page)
{
	return r->mem + page * PAGE_WORDS;
}

static void page_write(const struct ftregion *r, uint64_t page, uint64_t lap)
{
	uint64_t *p = page_at(r, page), v = page_seed(page, lap);

	p[0] = page;
	p[1] = lap;
	for (unsigned i = 2; i < PAGE_WORDS; i++) {
		v += STEP;
		p[i] = v;
	}
}

/* The number of the first wrong word, or PAGE_WORDS. stride 1 looks at all words. */
static unsigned page_verify(const struct ftregion *r, uint64_t page, uint64_t lap, unsigned stride)
{
	const uint64_t *p = page_at(r, page);
	uint64_t seed = page_seed(page, lap);

	if (p[0] != page)
		return 0;
	if (p[1] != lap)
		return 1;
	for (unsigned i = 2; i < PAGE_WORDS; i += stride)
		if (p[i] != seed + (i - 1) * STEP)
			return i;
	return PAGE_WORDS;
}

bool ftregion_init(
	struct ftregion *r, uint64_t bytes, uint64_t dirty_bytes, uint64_t period_ns, uint64_t now)
{
	*r = (struct ftregion){.pages = bytes / PAGE_BYTES,
		.per_period = (dirty_bytes + PAGE_BYTES - 1) / PAGE_BYTES,
		.period = period_ns,
		.lap = 1,
		.start = now};
	if (!r->pages)
		return true;
	r->mem = mmap(NULL, r->pages * PAGE_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (r->mem == MAP_FAILED)
		return false;
	for (uint64_t i = 0; i < r->pages; i++)
		page_write(r, i, r->lap);
	return true;
}

static void step(struct ftregion *r)
{
	uint64_t page = r->cursor;

	/* A page is lost as a whole; a sample of its words is enough to notice a torn one soon. */
	if (page_verify(r, page, r->lap, 51) != PAGE_WORDS && r->bad++ == 0) {
		r->bad_page = page;
		r->bad_want = r->lap;
		r->bad_found = page_at(r, page)[1];
	}
	page_write(r, page, r->lap + 1);
	r->written++;
	if (++r->cursor == r->pages) {
		r->cursor = 0;
		r->lap++;
	}
}

void ftregion_set_rate(struct ftregion *r, uint64_t dirty_bytes, uint64_t now)
{
	r->per_period = (dirty_bytes + PAGE_BYTES - 1) / PAGE_BYTES;
	r->start = now;
	r->due = 0;
}

uint64_t ftregion_write_due(struct ftregion *r, uint64_t now, uint64_t max)
{
	uint64_t want;

	if (!r->pages || !r->per_period)
		return 0;
	want = (uint64_t)((unsigned __int128)(now - r->start) * r->per_period / r->period);
	if (want > r->due + r->per_period) {
		/* We were not run for a while: the arrears are not made up for in one burst. */
		r->start = now;
		r->due = 0;
		want = 0;
	}
	for (; r->due < want && max; r->due++, max--)
		step(r);
	return want > r->due ? want - r->due : 0;
}

bool ftregion_check(const struct ftregion *r, char *text, size_t size)
{
	if (r->bad) {
		snprintf(text, size,
			"BAD page=%llu want_lap=%llu found_lap=%llu seen_by=writer count=%llu",
			(unsigned long long)r->bad_page, (unsigned long long)r->bad_want,
			(unsigned long long)r->bad_found, (unsigned long long)r->bad);
		return false;
	}
	for (uint64_t i = 0; i < r->pages; i++) {
		uint64_t lap = i < r->cursor ? r->lap + 1 : r->lap;
		unsigned word = page_verify(r, i, lap, 1);

		if (word == PAGE_WORDS)
			continue;
		snprintf(text, size,
			"BAD page=%llu want_lap=%llu found_lap=%llu word=%u cursor=%llu",
			(unsigned long long)i, (unsigned long long)lap,
			(unsigned long long)page_at(r, i)[1], word, (unsigned long long)r->cursor);
		return false;
	}
	snprintf(text, size, "OK pages=%llu laps=%llu", (unsigned long long)r->pages,
		(unsigned long long)r->lap);
	return true;
}
