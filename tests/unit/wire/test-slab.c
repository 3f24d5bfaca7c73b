/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The slab pool keeps its budget, grows and gives back; slabs hold what was appended and a walk
 * refuses every payload that does not fit the VM's memory. */
#include "common/clock.h"
#include "mcd/wire/slab.h"
#include "common/le.h"
#include "mcd/wire/protocol.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <cmocka.h>

#define PAGE WIRE_PAGE_SIZE

static struct slab_pool *new_pool(size_t slabs, const struct slab_hooks *hooks)
{
	struct slab_pool *p;
	assert_int_equal(slab_pool_new((uint64_t)slabs * SLAB_SIZE + 123, hooks, &p, NULL), 0);
	return p;
}

static struct slab_stats stats_of(const struct slab_pool *p)
{
	struct slab_stats s;
	slab_get_stats(p, &s);
	return s;
}

/* Takes n slabs at once and gives them back, as an epoch does. */
static void use(struct slab_pool *p, size_t n)
{
	struct slab *v[16];
	for (size_t i = 0; i < n; i++)
		assert_int_equal(slab_get(p, &v[i], NULL), 0);
	for (size_t i = 0; i < n; i++)
		slab_put(p, v[i]);
}

/* ---- the pool ---- */

static void budget_below_two_slabs_is_refused(void **state)
{
	struct mc_error err = MC_ERROR_INIT;
	struct slab_pool *p = NULL;
	assert_int_equal(slab_pool_new(2ull * SLAB_SIZE - 1, NULL, &p, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "max-buffer"));
	assert_null(p);
}

static void budget_is_never_exceeded(void **state)
{
	struct slab_pool *p = new_pool(3, NULL);
	struct mc_error err = MC_ERROR_INIT;
	struct slab *s[3], *more = NULL;
	for (int i = 0; i < 3; i++)
		assert_int_equal(slab_get(p, &s[i], NULL), 0);
	assert_int_equal(slab_get(p, &more, &err), -ENOBUFS);
	assert_null(more);
	assert_string_equal(err.cls, MC_ECLASS_MEMORY);
	assert_int_equal(stats_of(p).refused, 1);
	assert_int_equal(stats_of(p).total, 3);
	slab_put(p, s[1]);
	assert_int_equal(slab_get(p, &more, &err), 0);
	slab_put(p, more);
	slab_put(p, s[0]);
	slab_put(p, s[2]);
	slab_put(p, NULL);
	assert_int_equal(stats_of(p).in_use, 0);
	assert_int_equal(stats_of(p).peak, 3);
	slab_pool_free(p);
	slab_pool_free(NULL);
}

static void slab_comes_clean_populated_and_aligned(void **state)
{
	struct slab_pool *p = new_pool(2, NULL);
	struct slab *s;
	assert_int_equal(slab_get(p, &s, NULL), 0);
	assert_int_equal((uintptr_t)s->mem % PAGE, 0);
	static unsigned char in[SLAB_SIZE / PAGE];
	assert_int_equal(mincore(s->mem, SLAB_SIZE, in), 0);
	for (size_t i = 0; i < sizeof in; i++)
		assert_true(in[i] & 1);
	s->used = 77;
	s->next = s;
	slab_put(p, s);
	assert_int_equal(slab_get(p, &s, NULL), 0);
	assert_int_equal(s->used, 0);
	assert_null(s->next);
	slab_put(p, s);
	slab_pool_free(p);
}

static void one_slab_more_than_needed_is_ready_for_the_next_pause(void **state)
{
	struct slab_pool *p = new_pool(8, NULL);
	use(p, 2);
	slab_pool_epoch(p);
	assert_int_equal(stats_of(p).total, 3);
	uint64_t grown = stats_of(p).grown;
	use(p, 3);
	assert_int_equal(stats_of(p).grown, grown);
	slab_pool_free(p);
}

/* Or it was unmapped at the end of each epoch and mapped again in the next, whose pages were cold:
 * the copy in the pause took 17 times as long. */
static void what_each_epoch_reserves_is_mapped_once(void **state)
{
	struct slab_pool *p = new_pool(8, NULL);
	slab_pool_reserve(p, SLAB_SIZE + SLAB_SIZE / 4);
	uint64_t grown = stats_of(p).grown;
	for (int i = 0; i < 10; i++) {
		slab_pool_reserve(p, SLAB_SIZE + SLAB_SIZE / 4);
		use(p, 1);
		slab_pool_epoch(p);
	}
	assert_int_equal(stats_of(p).grown, grown);
	assert_int_equal(stats_of(p).evicted, 0);
	slab_pool_free(p);
}

static void slabs_that_64_epochs_did_not_need_are_given_back(void **state)
{
	struct slab_pool *p = new_pool(8, NULL);
	use(p, 6);
	slab_pool_epoch(p);
	for (int i = 0; i < 63; i++) {
		use(p, 1);
		slab_pool_epoch(p);
		assert_true(stats_of(p).total >= 6);
	}
	use(p, 1);
	slab_pool_epoch(p);
	assert_int_equal(stats_of(p).total, 2);
	assert_int_equal(stats_of(p).evicted, 5); /* the spare one of the large epoch too */
	assert_int_equal(stats_of(p).peak, 7);
	slab_pool_free(p);
}

static void slabs_still_handed_out_are_not_evicted(void **state)
{
	struct slab_pool *p = new_pool(4, NULL);
	struct slab *s[3];
	for (int i = 0; i < 3; i++)
		assert_int_equal(slab_get(p, &s[i], NULL), 0);
	for (int i = 0; i < 200; i++)
		slab_pool_epoch(p);
	memset(s[2]->mem, 1, SLAB_SIZE);
	assert_int_equal(stats_of(p).in_use, 3);
	for (int i = 0; i < 3; i++)
		slab_put(p, s[i]);
	slab_pool_free(p);
}

static void smaller_budget_holds_at_once_for_free_slabs_for_others_when_they_return(void **state)
{
	struct slab_pool *p = new_pool(6, NULL);
	struct slab *s[6], *more = NULL;
	for (int i = 0; i < 6; i++)
		assert_int_equal(slab_get(p, &s[i], NULL), 0);
	slab_put(p, s[4]);
	slab_put(p, s[5]);
	slab_pool_set_budget(p, 3ull * SLAB_SIZE + 1);
	assert_int_equal(stats_of(p).total, 4); /* the two that were free are gone */
	memset(s[3]->mem, 1, SLAB_SIZE);        /* the others belong to whoever has them */
	assert_int_equal(slab_get(p, &more, NULL), -ENOBUFS);
	slab_pool_reserve(p, 100ull * SLAB_SIZE);
	slab_pool_epoch(p);
	assert_int_equal(stats_of(p).total, 4);
	slab_put(p, s[3]);
	assert_int_equal(stats_of(p).total, 3);
	assert_int_equal(slab_get(p, &more, NULL), -ENOBUFS);
	for (int i = 0; i < 3; i++)
		slab_put(p, s[i]);
	slab_pool_epoch(p);
	assert_int_equal(stats_of(p).total, 3);
	assert_int_equal(stats_of(p).in_use, 0);
	slab_pool_set_budget(p, 0); /* never below the two without which nothing moves */
	assert_int_equal(stats_of(p).total, 2);
	use(p, 2);
	assert_int_equal(stats_of(p).peak, 2);
	slab_pool_free(p);
}

static void larger_budget_is_there_for_the_next_slab(void **state)
{
	struct slab_pool *p = new_pool(2, NULL);
	struct slab *s[5], *more = NULL;
	for (int i = 0; i < 2; i++)
		assert_int_equal(slab_get(p, &s[i], NULL), 0);
	assert_int_equal(slab_get(p, &more, NULL), -ENOBUFS);
	slab_pool_set_budget(p, 5ull * SLAB_SIZE);
	for (int i = 2; i < 5; i++)
		assert_int_equal(slab_get(p, &s[i], NULL), 0);
	assert_int_equal(slab_get(p, &more, NULL), -ENOBUFS);
	for (int i = 0; i < 5; i++)
		slab_put(p, s[i]);
	assert_int_equal(stats_of(p).peak, 5);
	slab_pool_free(p);
}

struct registry {
	int n, limit, calls;
};

static int reg(void *ctx, struct slab *s, struct mc_error *err)
{
	struct registry *r = ctx;
	if (r->n == r->limit)
		return mc_error_set(err, -EPERM, MC_ECLASS_PERMISSION, "memlock");
	s->reg = r;
	r->n++;
	r->calls++;
	return 0;
}

static void unreg(void *ctx, struct slab *s)
{
	struct registry *r = ctx;
	assert_ptr_equal(s->reg, r);
	r->n--;
}

static void each_slab_is_registered_once_while_it_exists(void **state)
{
	struct registry r = {.limit = 100};
	const struct slab_hooks hooks = {reg, unreg, &r};
	struct slab_pool *p = new_pool(4, &hooks);
	for (int i = 0; i < 70; i++) {
		use(p, i ? 1 : 3);
		slab_pool_epoch(p);
	}
	assert_int_equal(r.n, 2);
	assert_int_equal(r.calls, 4);
	slab_pool_free(p);
	assert_int_equal(r.n, 0);
}

static void failed_registration_is_reported_and_leaks_nothing(void **state)
{
	struct registry r = {.limit = 1};
	const struct slab_hooks hooks = {reg, unreg, &r};
	struct slab_pool *p = new_pool(4, &hooks);
	struct mc_error err = MC_ERROR_INIT;
	struct slab *s, *t = NULL;
	assert_int_equal(slab_get(p, &s, &err), 0);
	assert_int_equal(slab_get(p, &t, &err), -EPERM);
	assert_null(t);
	assert_int_equal(stats_of(p).total, 1);
	slab_pool_epoch(p); /* no spare one either, and no harm */
	slab_put(p, s);
	slab_pool_free(p);
	assert_int_equal(r.n, 0);
}

/* ---- append, seal, walk ---- */

static const uint64_t sizes[] = {64u << 20, 16 * PAGE};

struct seen {
	size_t n;
	struct {
		uint32_t block;
		uint64_t off, len;
		bool zero;
		uint8_t first;
	} v[8];
};

static void see(void *ctx, uint32_t block, uint64_t off, const uint8_t *mem, uint64_t len)
{
	struct seen *s = ctx;
	assert_true(s->n < 8);
	s->v[s->n].block = block;
	s->v[s->n].off = off;
	s->v[s->n].len = len;
	s->v[s->n].zero = !mem;
	s->v[s->n].first = mem ? mem[0] : 0;
	s->n++;
}

static void walk_finds_what_was_appended(void **state)
{
	struct slab_pool *p = new_pool(2, NULL);
	static uint8_t data[3 * PAGE];
	struct slab *s;
	struct seen seen = {0};
	memset(data, 7, sizeof data);
	slab_get(p, &s, NULL);
	assert_int_equal(slab_append(s, 0, 5 * PAGE, data, sizeof data), sizeof data);
	assert_int_equal(slab_append_zero(s, 1, 0, 16 * PAGE), 1);
	assert_int_equal(slab_append(s, 1, 15 * PAGE, data, PAGE), PAGE);
	slab_seal(s);
	assert_int_equal(s->used, 3 * WIRE_RANGE_SIZE + 4 * PAGE);
	assert_int_equal(slab_walk(s, sizes, 2, NULL, NULL, NULL), 0);
	assert_int_equal(slab_walk(s, sizes, 2, see, &seen, NULL), 0);
	assert_int_equal(seen.n, 3);
	assert_int_equal(seen.v[0].off, 5 * PAGE);
	assert_int_equal(seen.v[0].len, 3 * PAGE);
	assert_int_equal(seen.v[0].first, 7);
	assert_true(seen.v[1].zero);
	assert_int_equal(seen.v[1].len, 16 * PAGE);
	assert_int_equal(seen.v[2].block, 1);
	assert_int_equal(seen.v[2].off, 15 * PAGE);
	slab_put(p, s);
	slab_pool_free(p);
}

static void digest_follows_every_byte(void **state)
{
	struct slab_pool *p = new_pool(2, NULL);
	static uint8_t data[PAGE];
	struct slab *s;
	slab_get(p, &s, NULL);
	slab_append(s, 0, 0, data, PAGE);
	slab_seal(s);
	uint64_t before = s->digest;
	s->mem[s->used - 1] ^= 1;
	slab_seal(s);
	assert_int_not_equal(before, s->digest);
	slab_put(p, s);
	slab_pool_free(p);
}

static void append_takes_whole_pages_until_full(void **state)
{
	struct slab_pool *p = new_pool(2, NULL);
	uint8_t *data = calloc(1, 2 * SLAB_SIZE);
	struct slab *s;
	slab_get(p, &s, NULL);
	size_t n = slab_append(s, 0, 0, data, 2 * SLAB_SIZE);
	assert_int_equal(n, SLAB_SIZE - PAGE); /* the record costs the room of one page */
	assert_int_equal(slab_append(s, 0, n, data, PAGE), 0);
	/* Records without data still fit, up to the last byte. */
	size_t zeroes = 0;
	while (slab_append_zero(s, 0, 0, PAGE))
		zeroes++;
	assert_int_equal(zeroes, (PAGE - WIRE_RANGE_SIZE) / WIRE_RANGE_SIZE);
	assert_true(s->used <= SLAB_SIZE);
	assert_int_equal(slab_walk(s, sizes, 2, NULL, NULL, NULL), 0);
	slab_put(p, s);
	free(data);
	slab_pool_free(p);
}

static void every_hostile_range_is_refused_before_it_is_applied(void **state)
{
	static const struct {
		uint32_t block, flags;
		uint64_t off, len;
		const char *word;
	} bad[] = {
		{2, 0, 0, PAGE, "block 2"},
		{UINT32_MAX, 0, 0, PAGE, "but the VM has 2"},
		{0, 2, 0, PAGE, "unknown flags"},
		{0, WIRE_RANGE_ZERO | 1u << 31, 0, PAGE, "unknown flags"},
		{0, 0, 0, 0, "whole pages"},
		{0, 0, 1, PAGE, "whole pages"},
		{0, 0, 0, PAGE + 1, "whole pages"},
		{1, 0, 16 * PAGE, PAGE, "beyond"},
		{1, 0, 15 * PAGE, 2 * PAGE, "beyond"},
		{1, 0, UINT64_MAX & ~(PAGE - 1ull), PAGE, "beyond"},
		{1, 0, PAGE, UINT64_MAX & ~(PAGE - 1ull), "beyond"},
		{1, WIRE_RANGE_ZERO, 0, 17 * PAGE, "beyond"},
		{0, 0, 0, 2 * PAGE, "less data"},
		{0, 0, 0, 32u << 20, "less data"},
	};
	struct slab_pool *p = new_pool(2, NULL);
	struct slab *s;
	slab_get(p, &s, NULL);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct mc_error err = MC_ERROR_INIT;
		struct seen seen = {0};
		put_le32(s->mem, bad[i].block);
		put_le32(s->mem + 4, bad[i].flags);
		put_le64(s->mem + 8, bad[i].off);
		put_le64(s->mem + 16, bad[i].len);
		s->used = WIRE_RANGE_SIZE + PAGE;
		assert_int_equal(slab_walk(s, sizes, 2, see, &seen, &err), -EBADMSG);
		assert_string_equal(err.cls, MC_ECLASS_PROTOCOL);
		if (!strstr(err.msg, bad[i].word))
			fail_msg("case %zu: %s", i, err.msg);
		assert_int_equal(seen.n, 0);
	}
	slab_put(p, s);
	slab_pool_free(p);
}

static void truncated_slab_is_refused_at_every_length(void **state)
{
	struct slab_pool *p = new_pool(2, NULL);
	static uint8_t data[PAGE];
	struct slab *s;
	slab_get(p, &s, NULL);
	slab_append(s, 0, 0, data, PAGE);
	slab_append_zero(s, 0, PAGE, PAGE);
	size_t full = s->used;
	for (size_t n = 1; n < full; n++) {
		s->used = n;
		int r = slab_walk(s, sizes, 2, NULL, NULL, NULL);
		assert_int_equal(r, n == WIRE_RANGE_SIZE + PAGE ? 0 : -EBADMSG);
	}
	s->used = SLAB_SIZE + 1;
	assert_int_equal(slab_walk(s, sizes, 2, NULL, NULL, NULL), -EBADMSG);
	s->used = 0;
	assert_int_equal(slab_walk(s, sizes, 2, NULL, NULL, NULL), 0);
	slab_put(p, s);
	slab_pool_free(p);
}

static void few_bytes_cannot_make_us_zero_memory_over_and_over(void **state)
{
	struct slab_pool *p = new_pool(2, NULL);
	struct mc_error err = MC_ERROR_INIT;
	struct slab *s;
	slab_get(p, &s, NULL);
	slab_append_zero(s, 0, 0, sizes[0]);
	slab_append_zero(s, 0, 0, sizes[0]);
	assert_int_equal(slab_walk(s, sizes, 2, NULL, NULL, &err), -EBADMSG);
	assert_non_null(strstr(err.msg, "whole memory"));
	slab_put(p, s);
	slab_pool_free(p);
}

static void append_into_a_slab_takes_no_page_fault(void **state)
{
	struct slab_pool *p = new_pool(2, NULL);
	uint8_t *data = malloc(SLAB_SIZE);
	struct slab *s;
	struct rusage before, after;
	memset(data, 1, SLAB_SIZE);
	slab_get(p, &s, NULL);
	getrusage(RUSAGE_THREAD, &before);
	slab_append(s, 0, 0, data, SLAB_SIZE - PAGE);
	getrusage(RUSAGE_THREAD, &after);
	/* Of 1279 pages; a sanitizer faults in its own shadow, an eighth of them. */
	assert_true(after.ru_minflt - before.ru_minflt < 200);
	slab_put(p, s);
	free(data);
	slab_pool_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(budget_below_two_slabs_is_refused),
		cmocka_unit_test(budget_is_never_exceeded),
		cmocka_unit_test(slab_comes_clean_populated_and_aligned),
		cmocka_unit_test(one_slab_more_than_needed_is_ready_for_the_next_pause),
		cmocka_unit_test(what_each_epoch_reserves_is_mapped_once),
		cmocka_unit_test(slabs_that_64_epochs_did_not_need_are_given_back),
		cmocka_unit_test(slabs_still_handed_out_are_not_evicted),
		cmocka_unit_test(
			smaller_budget_holds_at_once_for_free_slabs_for_others_when_they_return),
		cmocka_unit_test(larger_budget_is_there_for_the_next_slab),
		cmocka_unit_test(each_slab_is_registered_once_while_it_exists),
		cmocka_unit_test(failed_registration_is_reported_and_leaks_nothing),
		cmocka_unit_test(walk_finds_what_was_appended),
		cmocka_unit_test(digest_follows_every_byte),
		cmocka_unit_test(append_takes_whole_pages_until_full),
		cmocka_unit_test(every_hostile_range_is_refused_before_it_is_applied),
		cmocka_unit_test(truncated_slab_is_refused_at_every_length),
		cmocka_unit_test(few_bytes_cannot_make_us_zero_memory_over_and_over),
		cmocka_unit_test(append_into_a_slab_takes_no_page_fault),
	};
	return cmocka_run_group_tests_name("slab", tests, NULL, NULL);
}
