/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Text from elsewhere: what JSON would refuse is gone, and what was good is as it was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/error.h"
#include "common/text.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static void cleaned(const char *text, const char *want)
{
	char buf[64];
	strcpy(buf, text);
	mc_text_clean(buf);
	assert_string_equal(buf, want);
}

static void good_text_stays(void **state)
{
	cleaned("", "");
	cleaned("a b ~", "a b ~");
	cleaned("\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80 \xf4\x8f\xbf\xbf",
		"\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80 \xf4\x8f\xbf\xbf");
}

static void what_is_no_utf8_is_shown_as_such(void **state)
{
	cleaned("caf\xe9 x", "caf? x");        /* Latin-1 */
	cleaned("a\x1b[31mb\x7f", "a?[31mb?"); /* a terminal's commands */
	cleaned("a\nb\tc", "a b c");
	cleaned("\xc0\x80 \xe0\x80\x80 ", "?? ??? "); /* overlong */
	cleaned("\xed\xa0\x80 ", "??? ");             /* a surrogate */
	cleaned("\xc2\x9b ", "?? ");                  /* a control character of two bytes */
	cleaned("\xff\xfe\xf5", "???");
}

static void a_character_cut_off_goes(void **state)
{
	char buf[5];
	cleaned("ab\xe2\x82", "ab");
	assert_string_equal(mc_text_copy(buf, sizeof buf, "abc\xc3\xa4"), "abc");
	assert_string_equal(mc_text_copy(buf, sizeof buf, "ab\xc3\xa4"), "ab\xc3\xa4");
	assert_string_equal(mc_text_copy(buf, sizeof buf, NULL), "");
	assert_string_equal(mc_text_copy(buf, 1, "x"), "");
}

/* Whatever came: JSON takes it. */
static void anything_becomes_json(void **state)
{
	char buf[48];
	srand(1);
	for (int i = 0; i < 200000; i++) {
		size_t n = (size_t)rand() % (sizeof buf - 1);
		for (size_t j = 0; j < n; j++)
			buf[j] = (char)(rand() % 3 ? 0x80 + rand() % 0x80 : 1 + rand() % 0xff);
		buf[n] = 0;
		mc_text_clean(buf);
		assert_true(strlen(buf) <= n);
		json_t *j = json_string(buf);
		assert_non_null(j);
		json_decref(j);
	}
}

static void every_error_is_fit_for_json(void **state)
{
	struct mc_error err = MC_ERROR_INIT;
	char name[3 * sizeof err.msg];
	mc_error_set(&err, -EIO, MC_ECLASS_FAILED, "cannot open %s!", "caf\xe9");
	assert_string_equal(err.msg, "cannot open caf?!");
	for (size_t at = 0; at < 4; at++) {
		for (size_t i = at; i + 2 < sizeof name; i += 2)
			memcpy(name + i, "\xc3\xa4", 3);
		memset(name, 'x', at);
		mc_error_set(&err, -EIO, MC_ECLASS_FAILED, "%s", name);
		json_t *j = json_string(err.msg);
		assert_non_null(j);
		json_decref(j);
		mc_error_wrap(&err, "%s", name);
		j = json_string(err.msg);
		assert_non_null(j);
		json_decref(j);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_text_stays),
		cmocka_unit_test(what_is_no_utf8_is_shown_as_such),
		cmocka_unit_test(a_character_cut_off_goes),
		cmocka_unit_test(anything_becomes_json),
		cmocka_unit_test(every_error_is_fit_for_json),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
