/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dirty tracking of a real process against the truth: what it was told to write, or its memory
 * compared byte by byte.  Usage: test-dirty pagemap-scan|soft-dirty
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/clock.h"
#include "dirtychild.h"
#include "mcd/guest/dirty/private.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE  4096ull
#define LEN0  (48ull << 20)
#define LEN1  (6ull << 20)
#define PAGES ((LEN0 + LEN1) / PAGE)

static enum dirty_backend backend;
static bool wide;
static struct dirtychild kid;
static struct dirty *d;
static struct dirty_list list;
static uint8_t want[PAGES], got[PAGES];

static int setup_as(unsigned int uid)
{
	d = NULL;
	return dirtychild_start(&kid, LEN0, LEN1, uid);
}

static int setup(void **state)
{
	return setup_as(0);
}

static int setup_nobody(void **state)
{
	return setup_as(65534);
}

static int teardown(void **state)
{
	dirty_close(d);
	dirty_list_free(&list);
	dirtychild_stop(&kid);
	return 0;
}

static void check(int r, const struct mc_error *err)
{
	if (r < 0)
		fail_msg("%s: %s", err->cls, err->msg);
}

static void open_it(void)
{
	struct mc_error err = MC_ERROR_INIT;
	check(dirty_open(kid.pid, kid.region, DIRTYCHILD_REGIONS, backend, &d, &err), &err);
	d->wide = d->wide || wide;
}

/* Collects, checks the form of the answer, and spreads it over got[]. */
static void collect(void)
{
	struct mc_error err = MC_ERROR_INIT;
	check(dirty_collect(d, &list, &err), &err);
	memset(got, 0, sizeof got);
	uint64_t bytes = 0;
	for (size_t i = 0; i < list.n; i++) {
		const struct dirty_range *v = &list.v[i], *prev = i ? v - 1 : NULL;
		assert_in_range(v->region, 0, DIRTYCHILD_REGIONS - 1);
		assert_true(v->len && v->off % PAGE == 0 && v->len % PAGE == 0);
		assert_true(v->off + v->len <= kid.region[v->region].len);
		/* sorted, disjoint, and merged where they touch */
		if (prev)
			assert_true(prev->region < v->region ||
				    (prev->region == v->region && prev->off + prev->len < v->off));
		bytes += v->len;
		uint64_t first = (v->region ? LEN0 : 0) / PAGE + v->off / PAGE;
		memset(got + first, 1, v->len / PAGE);
	}
	assert_int_equal(bytes, list.bytes);
}

static void kid_does(enum dirtychild_op op, uint64_t seed, uint64_t n)
{
	assert_int_equal(dirtychild_do(&kid, op, seed, n), 0);
}

static uint64_t ones(const uint8_t *v)
{
	uint64_t n = 0;
	for (uint64_t i = 0; i < PAGES; i++)
		n += v[i];
	return n;
}

static void assert_same(void)
{
	for (uint64_t i = 0; i < PAGES; i++)
		if (want[i] != got[i])
			fail_msg("page %u was %s", (unsigned)i, want[i] ? "missed" : "not written");
}

static void assert_no_miss(void)
{
	for (uint64_t i = 0; i < PAGES; i++)
		if (want[i] > got[i])
			fail_msg("page %u was missed", (unsigned)i);
}

static void write_and_check(enum dirtychild_op op, uint64_t seed, uint64_t n)
{
	dirtychild_pages(&kid, seed, n, want);
	kid_does(op, seed, n);
	collect();
	assert_same();
}

static void first_collect_reports_every_page_of_untouched_memory(void **state)
{
	open_it();
	collect();
	assert_int_equal(ones(got), PAGES);
	assert_int_equal(list.n, DIRTYCHILD_REGIONS);
	write_and_check(DC_WRITE, 5, 3000);
}

static void first_collect_reports_every_page_of_memory_in_use(void **state)
{
	kid_does(DC_WRITE, 5, 3000);
	open_it();
	collect();
	assert_int_equal(ones(got), PAGES);
	assert_int_equal(list.n, DIRTYCHILD_REGIONS);
}

static void later_collects_report_exactly_what_was_written(void **state)
{
	open_it();
	collect();
	for (uint64_t seed = 1; seed <= 40; seed++)
		write_and_check(DC_WRITE, seed, seed % 4 ? 300 : 6000);
	collect();
	assert_int_equal(ones(got), 0);
}

static void reading_is_not_reported(void **state)
{
	open_it();
	collect();
	kid_does(DC_TOUCH, 0, 0);
	collect();
	assert_int_equal(ones(got), 0);
	write_and_check(DC_WRITE, 77, 100);
}

static void writes_by_the_kernel_are_reported(void **state)
{
	open_it();
	collect();
	for (uint64_t seed = 1; seed <= 5; seed++)
		write_and_check(DC_READ_INTO, seed, 400);
}

static void more_ranges_than_one_scan_returns(void **state)
{
	open_it();
	collect();
	for (int i = 0; i < 3; i++) {
		write_and_check(DC_WRITE, 0, PAGES / 2);
		assert_int_equal(list.n, PAGES / 2);
	}
}

static void peek_counts_without_re_arming(void **state)
{
	struct mc_error err = MC_ERROR_INIT;
	uint64_t bytes = 1;
	open_it();
	int r = dirty_peek(d, &bytes, &err);
	if (r == -ENOTSUP) {
		assert_int_equal(bytes, 1);
		return;
	}
	check(r, &err);
	assert_int_equal(bytes, LEN0 + LEN1);
	collect();
	for (int i = 0; i < 2; i++) {
		check(dirty_peek(d, &bytes, &err), &err);
		assert_int_equal(bytes, 0);
	}
	dirtychild_pages(&kid, 3, 9000, want);
	kid_does(DC_WRITE, 3, 9000);
	for (int i = 0; i < 2; i++) {
		check(dirty_peek(d, &bytes, &err), &err);
		assert_int_equal(bytes, ones(want) * PAGE);
	}
	collect();
	assert_same();
}

/* Reclaim does this to a written page.  The data is safe in the memfd; the note in the page table
 * that it was written is gone. */
static void written_page_that_lost_its_mapping_is_reported(void **state)
{
	open_it();
	collect();
	for (uint64_t seed = 1; seed <= 4; seed++) {
		dirtychild_pages(&kid, seed, seed * 500, want);
		kid_does(DC_WRITE, seed, seed * 500);
		kid_does(DC_UNMAP, 0, 0);
		/* Soft-dirty bits cannot see through this; the backend keeps reclaim away. */
		if (seed % 2 && backend == DIRTY_PAGEMAP_SCAN)
			kid_does(DC_TOUCH, 0, 0);
		collect();
		assert_no_miss();
	}
	write_and_check(DC_WRITE, 99, 500);
}

/* --- truth by comparison
 * ------------------------------------------------------------------------*/

static uint8_t *shadow;

static void copy_reported(void)
{
	for (size_t i = 0; i < list.n; i++) {
		const struct dirty_range *v = &list.v[i];
		memcpy(shadow + (v->region ? LEN0 : 0) + v->off, kid.map[v->region] + v->off,
			v->len);
	}
}

static void race_rounds(int rounds)
{
	shadow =
		mmap(NULL, LEN0 + LEN1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(shadow != MAP_FAILED);
	open_it();
	for (int i = 0; i < rounds; i++) {
		kid_does(DC_RACE, 0, 0);
		uint64_t before = *kid.writes;
		for (int j = 0; j < 20; j++) {
			collect();
			copy_reported();
		}
		for (uint64_t end = mc_now() + 10 * MC_SEC; *kid.writes == before; usleep(100))
			assert_true(mc_now() < end);
		kid_does(DC_RACE_STOP, 0, 0);
		collect();
		copy_reported();
		for (uint64_t p = 0; p < PAGES; p++) {
			const uint8_t *truth = p < LEN0 / PAGE ? kid.map[0] + p * PAGE
							       : kid.map[1] + p * PAGE - LEN0;
			if (memcmp(shadow + p * PAGE, truth, PAGE))
				fail_msg("round %d: page %u was missed", i, (unsigned)p);
		}
	}
	munmap(shadow, LEN0 + LEN1);
}

static void nothing_is_missed_when_writes_race_with_collects(void **state)
{
	race_rounds(15);
}

/* Puts the memory into huge mappings, or skips the test where there are none. */
static void make_huge(void)
{
	for (uint64_t i = 0; i < DIRTYCHILD_REGIONS; i++) /* must exist to be collapsed */
		memset(kid.map[i], 1, kid.region[i].len);
	int r = 1;
	for (int i = 0; r && i < 10;
		i++) /* it may be refused for a moment, while pages are in use */
		r = dirtychild_do(&kid, DC_COLLAPSE, 0, 0);
	if (r) {
		print_message("skipped: no huge mappings (%s)\n", strerror(r));
		skip();
	}
}

static void nothing_is_missed_in_huge_mappings(void **state)
{
	make_huge();
	race_rounds(10);
}

/* Here not even a page table is left to tell. */
static void written_huge_page_that_lost_its_mapping_is_reported(void **state)
{
	make_huge();
	open_it();
	collect();
	for (uint64_t seed = 1; seed <= 3; seed++) {
		dirtychild_pages(&kid, seed, 200, want);
		kid_does(DC_WRITE, seed, 200);
		kid_does(DC_UNMAP, 0, 0);
		collect();
		assert_no_miss();
	}
}

/* --- life and death
 * -----------------------------------------------------------------------------*/

static void process_goes_on_after_close_and_can_be_tracked_again(void **state)
{
	for (uint64_t i = 1; i <= 3; i++) {
		open_it();
		collect();
		assert_int_equal(ones(got), PAGES);
		write_and_check(DC_WRITE, i, 500);
		kid_does(DC_WRITE, 50 + i, 500); /* armed pages are left behind */
		dirty_close(d);
		d = NULL;
		kid_does(DC_WRITE, 60 + i, 4000);
	}
}

static void killed_tracker_leaves_the_process_running(void **state)
{
	for (uint64_t i = 1; i <= 3; i++) {
		int ready[2];
		assert_int_equal(pipe(ready), 0);
		pid_t tracker = fork();
		if (!tracker) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			struct mc_error err = MC_ERROR_INIT;
			char ok = !dirty_open(kid.pid, kid.region, 2, backend, &d, &err) &&
				  !dirty_collect(d, &list, &err);
			if (!ok)
				fprintf(stderr, "tracker: %s\n", err.msg);
			if (write(ready[1], &ok, 1) == 1)
				for (;;)
					dirty_collect(d, &list, &err);
			_exit(0);
		}
		char ok = 0;
		assert_int_equal(read(ready[0], &ok, 1), 1);
		close(ready[0]);
		close(ready[1]);
		assert_true(ok);
		kid_does(DC_RACE, 0, 0);
		usleep(20000);
		kill(tracker, SIGKILL);
		waitpid(tracker, NULL, 0);
		uint64_t before = *kid.writes;
		for (uint64_t end = mc_now() + 10 * MC_SEC; *kid.writes < before + 1000;
			usleep(100))
			assert_true(mc_now() < end);
		kid_does(DC_RACE_STOP, 0, 0);
		open_it();
		collect();
		assert_int_equal(ones(got), PAGES);
		write_and_check(DC_WRITE, i, 700);
		dirty_close(d);
		d = NULL;
	}
}

static void second_tracker_is_refused(void **state)
{
	if (backend == DIRTY_SOFT_DIRTY) {
		print_message("skipped: soft-dirty bits do not know who reads them\n");
		skip();
	}
	struct mc_error err = MC_ERROR_INIT;
	struct dirty *second = NULL;
	open_it();
	collect();
	assert_int_equal(dirty_open(kid.pid, kid.region, 2, backend, &second, &err), -EBUSY);
	assert_null(second);
	write_and_check(DC_WRITE, 4, 500);
}

static void dead_process_is_an_error_and_never_an_empty_answer(void **state)
{
	for (int i = 0; i < 20; i++) {
		struct mc_error err = MC_ERROR_INIT;
		open_it();
		collect();
		dirtychild_pages(&kid, 3, 2000, want);
		kid_does(DC_WRITE, 3, 2000);
		/* Killed at some point of the collect, or before it. */
		pid_t killer = fork();
		if (!killer) {
			usleep((unsigned)(i * 20));
			kill(kid.pid, SIGKILL);
			_exit(0);
		}
		if (i % 4 == 3)
			waitpid(killer, NULL, 0);
		bool whole = false;
		int r = 0;
		for (uint64_t end = mc_now() + 10 * MC_SEC; !r && mc_now() < end;) {
			r = dirty_collect(d, &list, &err);
			whole = whole || (!r && list.bytes == ones(want) * PAGE);
			if (!r && !whole)
				fail_msg("a dying process answered %u bytes", (unsigned)list.bytes);
		}
		assert_int_equal(r, -ESRCH);
		assert_string_equal(err.cls, MC_ECLASS_QMP);
		dirty_close(d);
		d = NULL;
		if (i % 4 != 3)
			waitpid(killer, NULL, 0);
		assert_int_equal(dirty_open(kid.pid, kid.region, 2, backend, &d, &err), -ESRCH);
		dirtychild_stop(&kid);
		assert_int_equal(setup_as(0), 0);
	}
}

static void bad_regions_are_refused(void **state)
{
	struct mc_error err = MC_ERROR_INIT;
	struct dirty_region bad[] = {{kid.region[0].addr + 1, PAGE}, {kid.region[0].addr, PAGE + 1},
		{kid.region[0].addr, 0}};
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(dirty_open(kid.pid, &bad[i], 1, backend, &d, &err), -EINVAL);
	assert_int_equal(dirty_open(kid.pid, bad, 0, backend, &d, &err), -EINVAL);
}

static void backend_says_its_name(void **state)
{
	open_it();
	assert_string_equal(
		d->ops->name, backend == DIRTY_SOFT_DIRTY ? "soft-dirty" : "pagemap-scan");
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
	struct mc_error err = MC_ERROR_INIT;
	backend =
		argc > 1 && !strcmp(argv[1], "soft-dirty") ? DIRTY_SOFT_DIRTY : DIRTY_PAGEMAP_SCAN;
	wide = argc > 1 && !strcmp(argv[1], "pagemap-scan-wide");
	if (dirty_probe(backend, NULL, &err)) {
		printf("SKIP: %s\n", err.msg);
		return 77;
	}
	const struct CMUnitTest tests[] = {
		T(first_collect_reports_every_page_of_untouched_memory),
		T(first_collect_reports_every_page_of_memory_in_use),
		T(later_collects_report_exactly_what_was_written),
		T(reading_is_not_reported),
		T(writes_by_the_kernel_are_reported),
		cmocka_unit_test_setup_teardown(
			writes_by_the_kernel_are_reported, setup_nobody, teardown),
		T(more_ranges_than_one_scan_returns),
		T(peek_counts_without_re_arming),
		T(written_page_that_lost_its_mapping_is_reported),
		T(nothing_is_missed_when_writes_race_with_collects),
		T(nothing_is_missed_in_huge_mappings),
		T(written_huge_page_that_lost_its_mapping_is_reported),
		T(process_goes_on_after_close_and_can_be_tracked_again),
		T(killed_tracker_leaves_the_process_running),
		T(second_tracker_is_refused),
		T(dead_process_is_an_error_and_never_an_empty_answer),
		T(bad_regions_are_refused),
		T(backend_says_its_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
