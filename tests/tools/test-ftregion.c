/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest's checkers must notice what a wrong checkpoint would do to them. */
#include "ftlog.h"
#include "ftregion.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#define PAGES 64u
#define WORDS 512u
#define MS    1000000ull

/* Lets just so much time pass that n more pages are due. */
static void write_pages(struct ftregion *r, uint64_t n)
{
	for (; n; n--)
		ftregion_write_due(r, r->start + (r->due + 1) * r->period / r->per_period + 1, 1);
}

static struct ftregion region_at(uint64_t written)
{
	struct ftregion r;

	assert_true(ftregion_init(&r, PAGES * 4096, PAGES * 4096, 100 * MS, 0));
	write_pages(&r, written);
	assert_int_equal(r.written, written);
	return r;
}

static void check_is(const struct ftregion *r, const char *start)
{
	char text[256];

	ftregion_check(r, text, sizeof(text));
	assert_memory_equal(text, start, strlen(start));
}

static void untouched_region_is_good(void **state)
{
	for (uint64_t n = 0; n < 3 * PAGES; n += 7) {
		struct ftregion r = region_at(n);

		assert_int_equal(r.cursor, n % PAGES);
		check_is(&r, "OK pages=64");
	}
}

static void stale_page_is_noticed(void **state)
{
	struct ftregion r = region_at(PAGES + 10);
	uint64_t old[WORDS];

	memcpy(old, r.mem + 20 * WORDS, sizeof(old));
	write_pages(&r, 20);
	check_is(&r, "OK pages=64");
	memcpy(r.mem + 20 * WORDS, old, sizeof(old));
	check_is(&r, "BAD page=20");
}

static void page_of_another_place_is_noticed(void **state)
{
	struct ftregion r = region_at(5);

	/* cppcheck-suppress overlappingWriteFunction ; they are next to each other */
	memcpy(r.mem + 40 * WORDS, r.mem + 41 * WORDS, WORDS * 8);
	check_is(&r, "BAD page=40");
}

static void torn_page_is_noticed(void **state)
{
	struct ftregion r = region_at(5);

	r.mem[50 * WORDS + WORDS - 1] ^= 1;
	check_is(&r, "BAD page=50");
}

static void cursor_from_another_time_is_noticed(void **state)
{
	struct ftregion r = region_at(PAGES + 10);

	r.cursor = 9;
	check_is(&r, "BAD page=9");
}

static void writer_does_not_wipe_out_damage(void **state)
{
	struct ftregion r = region_at(PAGES);

	r.mem[3 * WORDS + 1]--;
	write_pages(&r, 2 * PAGES);
	check_is(&r, "BAD page=3");
}

static void rate_is_kept_and_arrears_are_dropped(void **state)
{
	struct ftregion r = region_at(0);

	assert_int_equal(ftregion_write_due(&r, 50 * MS, 10), 22);
	assert_int_equal(ftregion_write_due(&r, 50 * MS, 1000), 0);
	assert_int_equal(r.written, 32);
	ftregion_write_due(&r, 5000 * MS, 1000);
	assert_int_equal(r.written, 32);
	ftregion_write_due(&r, 5050 * MS, 1000);
	assert_int_equal(r.written, 64);
}

static void new_rate_holds_from_now_on(void **state)
{
	struct ftregion r;

	assert_true(ftregion_init(&r, 64 * 4096, 0, 100 * MS, 0));
	assert_int_equal(ftregion_write_due(&r, 50 * MS, 1000), 0);
	assert_int_equal(r.written, 0);
	ftregion_set_rate(&r, 32 * 4096, 50 * MS);
	ftregion_write_due(&r, 100 * MS, 1000);
	assert_int_equal(r.written, 16); /* what would have been due before is not made up for */
	ftregion_set_rate(&r, 0, 100 * MS);
	ftregion_write_due(&r, 200 * MS, 1000);
	assert_int_equal(r.written, 16);
}

static void log_keeps_and_checks_its_chain(void **state)
{
	static struct ftlog l;
	uint64_t chain;

	for (uint64_t i = 0; i < FTLOG_CHUNK + 10; i++)
		assert_non_null(ftlog_append(&l, i * 7));
	chain = ftlog_get(&l, 5)->chain;
	assert_int_equal(l.last, FTLOG_CHUNK + 10);
	assert_null(ftlog_get(&l, l.last + 1));
	assert_null(ftlog_get(&l, 0));
	assert_int_equal(ftlog_check(&l), 0);
	l.chunks[0][4].payload++;
	assert_int_equal(ftlog_check(&l), 5);
	l.chunks[0][4].payload--;
	assert_int_equal(ftlog_get(&l, 5)->chain, chain);
	l.chunks[1][3].chain ^= 1;
	assert_int_equal(ftlog_check(&l), FTLOG_CHUNK + 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(untouched_region_is_good),
		cmocka_unit_test(stale_page_is_noticed),
		cmocka_unit_test(page_of_another_place_is_noticed),
		cmocka_unit_test(torn_page_is_noticed),
		cmocka_unit_test(cursor_from_another_time_is_noticed),
		cmocka_unit_test(writer_does_not_wipe_out_damage),
		cmocka_unit_test(rate_is_kept_and_arrears_are_dropped),
		cmocka_unit_test(new_rate_holds_from_now_on),
		cmocka_unit_test(log_keeps_and_checks_its_chain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
