/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/parse.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

static void durations_with_units_become_nanoseconds(void **state)
{
	static const struct {
		const char *text;
		uint64_t ns;
	} rows[] = {
		{"100ms", 100000000},
		{"50us", 50000},
		{"2s", 2000000000},
		{"1.5s", 1500000000},
		{"0.25ms", 250000},
		{"7ns", 7},
		{"2min", 120000000000},
		{"1h", 3600000000000},
		{"0ms", 0},
		{"18446744073709551615ns", UINT64_MAX},
	};
	for (size_t i = 0; i < COUNT(rows); i++) {
		uint64_t ns = 42;
		struct mc_error err = MC_ERROR_INIT;
		assert_int_equal(mc_parse_duration(rows[i].text, &ns, &err), 0);
		assert_int_equal(ns, rows[i].ns);
		assert_int_equal(err.code, 0);
	}
}

static void a_duration_without_a_known_unit_is_refused(void **state)
{
	static const char *const rows[] = {"100", "0", "100m", "100MS", "100 ms", " 100ms",
		"100ms ", "-1s", "+1s", "ms", "", "1.s", ".5s", "1e3ms", "0x10ms", "1.5.5s",
		"1.0000000001s", "100sec"};
	for (size_t i = 0; i < COUNT(rows); i++) {
		uint64_t ns = 42;
		struct mc_error err = MC_ERROR_INIT;
		int r = mc_parse_duration(rows[i], &ns, &err);
		if (r != -EINVAL)
			fail_msg("\"%s\" gave %d", rows[i], r);
		assert_int_equal(ns, 42);
		assert_string_equal(err.cls, MC_ECLASS_INVALID);
	}
	struct mc_error err = MC_ERROR_INIT;
	uint64_t ns;
	mc_parse_duration("100", &ns, &err);
	assert_non_null(strstr(err.msg, "no unit"));
}

static void quantities_that_do_not_fit_are_refused(void **state)
{
	static const char *const durations[] = {"18446744073709551616ns", "18446744074s",
		"5124096h", "99999999999999999999999999s"};
	static const char *const sizes[] = {
		"16777216T", "18446744073709551616B", "18446744073710MB"};
	uint64_t v = 42;
	for (size_t i = 0; i < COUNT(durations); i++)
		assert_int_equal(mc_parse_duration(durations[i], &v, NULL), -ERANGE);
	for (size_t i = 0; i < COUNT(sizes); i++)
		assert_int_equal(mc_parse_size(sizes[i], &v, NULL), -ERANGE);
	assert_int_equal(v, 42);
}

static void sizes_tell_powers_of_two_from_powers_of_ten(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} rows[] = {
		{"5MB", 5000000},
		{"1kB", 1000},
		{"1KB", 1000},
		{"256MiB", 256ull << 20},
		{"1G", 1ull << 30},
		{"1.5G", 3ull << 29},
		{"512B", 512},
		{"4K", 4096},
		{"0", 0},
		{"2TiB", 2ull << 40},
		{"2TB", 2000000000000},
	};
	for (size_t i = 0; i < COUNT(rows); i++) {
		uint64_t bytes = 42;
		assert_int_equal(mc_parse_size(rows[i].text, &bytes, NULL), 0);
		assert_int_equal(bytes, rows[i].bytes);
	}
	static const char *const bad[] = {"5", "5mb", "5Mib", "-0", "MiB", "", "1,5G", "5 MB"};
	for (size_t i = 0; i < COUNT(bad); i++) {
		uint64_t bytes = 42;
		assert_int_equal(mc_parse_size(bad[i], &bytes, NULL), -EINVAL);
		assert_int_equal(bytes, 42);
	}
}

static void whole_numbers_are_held_to_their_range(void **state)
{
	uint64_t v = 42;
	assert_int_equal(mc_parse_uint("65535", 1, 65535, &v, NULL), 0);
	assert_int_equal(v, 65535);
	assert_int_equal(mc_parse_uint("0065", 1, 65535, &v, NULL), 0);
	assert_int_equal(v, 65);
	assert_int_equal(mc_parse_uint("65536", 1, 65535, &v, NULL), -ERANGE);
	assert_int_equal(mc_parse_uint("0", 1, 65535, &v, NULL), -ERANGE);
	assert_int_equal(
		mc_parse_uint("99999999999999999999999", 0, UINT64_MAX, &v, NULL), -ERANGE);
	assert_int_equal(mc_parse_uint("12x", 1, 65535, &v, NULL), -EINVAL);
	assert_int_equal(mc_parse_uint("-5", 0, 10, &v, NULL), -EINVAL);
	assert_int_equal(mc_parse_uint("", 0, 10, &v, NULL), -EINVAL);
	assert_int_equal(v, 65);
}

static void what_is_printed_parses_back_to_the_same_value(void **state)
{
	static const uint64_t values[] = {0, 1, 999, 1000, 1024, 50000000, 100000000, 1500000000,
		256ull << 20, 5000000, UINT64_MAX};
	for (size_t i = 0; i < COUNT(values); i++) {
		char buf[MC_QUANTITY_MAX];
		uint64_t v = 42;
		assert_int_equal(
			mc_parse_duration(mc_format_duration(values[i], buf), &v, NULL), 0);
		assert_int_equal(v, values[i]);
		assert_int_equal(mc_parse_size(mc_format_size(values[i], buf), &v, NULL), 0);
		assert_int_equal(v, values[i]);
	}
	char buf[MC_QUANTITY_MAX];
	assert_string_equal(mc_format_duration(100000000, buf), "100ms");
	assert_string_equal(mc_format_size(256ull << 20, buf), "256MiB");
}

static void a_typing_mistake_finds_the_name_that_was_meant(void **state)
{
	static const char *const names[] = {"delay", "max-buffer", "hold-limit", "id"};
	assert_string_equal(mc_nearest("dealy", names, COUNT(names)), "delay");
	assert_string_equal(mc_nearest("max-bufer", names, COUNT(names)), "max-buffer");
	assert_string_equal(mc_nearest("max_buffer", names, COUNT(names)), "max-buffer");
	assert_string_equal(mc_nearest("Hold-Limits", names, COUNT(names)), "hold-limit");
}

static void a_different_word_finds_nothing(void **state)
{
	static const char *const names[] = {"delay", "max-buffer", "hold-limit", "id"};
	assert_null(mc_nearest("compression", names, COUNT(names)));
	assert_null(mc_nearest("xy", names, COUNT(names)));
	assert_null(mc_nearest("", names, COUNT(names)));
	assert_null(mc_nearest("delay", names, 0));
	char huge[300];
	memset(huge, 'd', sizeof huge - 1);
	huge[sizeof huge - 1] = '\0';
	assert_null(mc_nearest(huge, names, COUNT(names)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(durations_with_units_become_nanoseconds),
		cmocka_unit_test(a_duration_without_a_known_unit_is_refused),
		cmocka_unit_test(quantities_that_do_not_fit_are_refused),
		cmocka_unit_test(sizes_tell_powers_of_two_from_powers_of_ten),
		cmocka_unit_test(whole_numbers_are_held_to_their_range),
		cmocka_unit_test(what_is_printed_parses_back_to_the_same_value),
		cmocka_unit_test(a_typing_mistake_finds_the_name_that_was_meant),
		cmocka_unit_test(a_different_word_finds_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
