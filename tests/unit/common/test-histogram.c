/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct mc_histogram h; /* too large for comfort on the stack */

static int empty(void **state)
{
	memset(&h, 0, sizeof h);
	return 0;
}

static void an_empty_histogram_answers_zero(void **state)
{
	assert_int_equal(h.count, 0);
	assert_int_equal(mc_histogram_percentile(&h, 50), 0);
	assert_int_equal(h.min, 0);
	assert_int_equal(h.max, 0);
}

static int ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static void percentiles_are_within_two_percent_of_the_sorted_truth(void **state)
{
	enum { N = 5000 };
	static uint64_t values[N];
	uint64_t seed = 0x9e3779b97f4a7c15;
	for (size_t i = 0; i < N; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		values[i] = seed >> (seed % 60); /* every magnitude */
		mc_histogram_add(&h, values[i]);
	}
	qsort(values, N, sizeof *values, ascending);
	static const double wanted[] = {1, 10, 50, 90, 99, 99.9};
	for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
		size_t rank = (size_t)(wanted[i] * N / 100 + 0.999);
		double truth = (double)values[rank - 1];
		double got = (double)mc_histogram_percentile(&h, wanted[i]);
		if (got < truth * 0.98 || got > truth * 1.02)
			fail_msg("p%g: %g instead of %g", wanted[i], got, truth);
	}
}

static void small_values_are_exact(void **state)
{
	for (uint64_t v = 1; v <= 50; v++)
		mc_histogram_add(&h, v);
	for (unsigned p = 2; p <= 100; p += 2)
		assert_int_equal(mc_histogram_percentile(&h, p), p / 2);
}

static void the_ends_are_exact_and_bound_every_percentile(void **state)
{
	mc_histogram_add(&h, 1000003);
	assert_int_equal(mc_histogram_percentile(&h, 50), 1000003);
	mc_histogram_add(&h, UINT64_MAX);
	mc_histogram_add(&h, 7777777);
	assert_int_equal(h.min, 1000003);
	assert_int_equal(h.max, UINT64_MAX);
	assert_int_equal(mc_histogram_percentile(&h, 0), 1000003);
	assert_int_equal(mc_histogram_percentile(&h, 100), UINT64_MAX);
	assert_int_equal(h.count, 3);
}

static void every_bucket_edge_is_inside_the_table(void **state)
{
	for (unsigned bit = 0; bit < 64; bit++)
		for (int d = -1; d <= 1; d++)
			mc_histogram_add(&h, (1ull << bit) + (uint64_t)(int64_t)d);
	uint64_t sum = 0;
	for (unsigned i = 0; i < MC_HISTOGRAM_BUCKETS; i++)
		sum += h.bucket[i];
	assert_int_equal(sum, 64 * 3);
}

static void a_reset_histogram_is_empty(void **state)
{
	mc_histogram_add(&h, 5);
	mc_histogram_reset(&h);
	an_empty_histogram_answers_zero(state);
	mc_histogram_add(&h, 9);
	assert_int_equal(h.min, 9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(an_empty_histogram_answers_zero, empty),
		cmocka_unit_test_setup(
			percentiles_are_within_two_percent_of_the_sorted_truth, empty),
		cmocka_unit_test_setup(small_values_are_exact, empty),
		cmocka_unit_test_setup(the_ends_are_exact_and_bound_every_percentile, empty),
		cmocka_unit_test_setup(every_bucket_edge_is_inside_the_table, empty),
		cmocka_unit_test_setup(a_reset_histogram_is_empty, empty),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
