/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A QEMU that floods, nests and lies: what it may cost of memory, and of time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/clock.h"
#include "common/qmp.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define GREETING                                                                                   \
	"{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, "         \
	"\"package\": \"\"}, \"capabilities\": [\"oob\"]}}\r\n{\"return\": {}, \"id\": 1}\r\n"
#define WAIT (300 * MC_MSEC)

static struct {
	char dir[32], path[64];
	int listener;
	pthread_t thread;
	const char *flood; /* said again and again, until the session ends */
	atomic_bool flooding;
	struct qmp *q;
	struct mc_error err;
} s;

static bool say(int conn, const char *text)
{
	for (size_t len = strlen(text); len;) {
		ssize_t n = send(conn, text, len, MSG_NOSIGNAL);
		if (n < 0)
			return false;
		text += n;
		len -= (size_t)n;
	}
	return true;
}

static void *serve(void *arg)
{
	int conn = accept(s.listener, NULL, NULL);
	if (say(conn, GREETING))
		while (*s.flood && say(conn, s.flood))
			atomic_store(&s.flooding, true);
	char byte;
	while (!*s.flood && recv(conn, &byte, 1, 0) > 0)
		;
	close(conn);
	return NULL;
}

static void flooded_by(const char *flood)
{
	memset(&s, 0, sizeof s);
	s.flood = flood;
	strcpy(s.dir, "/tmp/test-qmp-XXXXXX");
	assert_non_null(mkdtemp(s.dir));
	snprintf(s.path, sizeof s.path, "%s/qmp", s.dir);
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	strcpy(sa.sun_path, s.path);
	s.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(s.listener, (struct sockaddr *)&sa, sizeof sa), 0);
	assert_int_equal(listen(s.listener, 1), 0);
	assert_int_equal(pthread_create(&s.thread, NULL, serve, NULL), 0);
	if (qmp_open(s.path, false, mc_now() + 10 * MC_SEC, &s.q, &s.err) < 0)
		fail_msg("%s", s.err.msg);
}

static int end(void **state)
{
	qmp_close(s.q);
	pthread_join(s.thread, NULL);
	close(s.listener);
	unlink(s.path);
	rmdir(s.dir);
	return 0;
}

static size_t resident(void)
{
	size_t all, kib = 0;
	FILE *f = fopen("/proc/self/statm", "re");
	if (f && fscanf(f, "%zu %zu", &all, &kib) == 2)
		kib *= (size_t)getpagesize() / 1024;
	if (f)
		fclose(f);
	return kib;
}

static char *repeated(const char *head, const char *item, size_t n, const char *tail)
{
	size_t a = strlen(head), b = strlen(item);
	char *text = malloc(a + n * b + strlen(tail) + 1);
	assert_non_null(text);
	memcpy(text, head, a);
	for (size_t i = 0; i < n; i++)
		memcpy(text + a + i * b, item, b);
	strcpy(text + a + n * b, tail);
	return text;
}

/* The command ends when it has to, whatever comes: with that result. */
static void command_ends(int want)
{
	uint64_t began = mc_now();
	assert_int_equal(qmp_command(s.q, "query-status", NULL, WAIT, NULL, &s.err), want);
	uint64_t took = mc_now() - began;
	if (took > WAIT + 2 * MC_SEC)
		fail_msg("it took %.1f s", (double)took / 1e9);
}

static void a_flood_of_events_does_not_outlast_a_deadline(void **state)
{
	flooded_by("{\"event\": \"STOP\"}\r\n{\"event\": \"RTC_CHANGE\", \"data\": {}}\r\n");
	command_ends(-ETIMEDOUT);
}

static void bytes_without_a_newline_do_not_outlast_a_deadline(void **state)
{
	/* Slow enough not to reach the end of a line before the deadline, and never silent. */
	flooded_by(" ");
	int r = qmp_command(s.q, "query-status", NULL, WAIT, NULL, &s.err);
	assert_true(r == -ETIMEDOUT || r == -EBADMSG);
}

static void waiting_for_an_event_ends_under_a_flood(void **state)
{
	flooded_by("{\"event\": \"RTC_CHANGE\", \"data\": {}}\r\n");
	uint64_t began = mc_now();
	assert_int_equal(
		qmp_wait_event(s.q, "MIGRATION", mc_now() + WAIT, NULL, &s.err), -ETIMEDOUT);
	assert_true(mc_now() - began < WAIT + 2 * MC_SEC);
}

static void taking_events_ends_under_a_flood(void **state)
{
	static const char *const names[] = {"STOP", NULL};
	flooded_by("{\"event\": \"RTC_CHANGE\", \"data\": {}}\r\n");
	qmp_want_events(s.q, names);
	json_t *e;
	uint64_t began = mc_now();
	for (int i = 0; i < 100; i++)
		assert_int_equal(qmp_next_event(s.q, &e), 0);
	assert_true(mc_now() - began < 5 * MC_SEC);
}

/* 5 million objects were 1.2 GiB. */
static void a_message_of_nothing_but_values_costs_nothing(void **state)
{
	char *text =
		repeated("{\"event\": \"STOP\", \"data\": {\"x\": [", "{},", 340000, "{}]}}\r\n");
	size_t before = resident();
	flooded_by(text);
	command_ends(-EBADMSG);
	assert_non_null(strstr(s.err.msg, "too many values"));
	size_t grown = resident() - before;
	if (grown > 8 * 1024)
		fail_msg("%zu KiB more are resident", grown);
	end(state);
	free(text);
	s.q = NULL;
}

static void nesting_is_bounded(void **state)
{
	char *text = repeated("{\"return\": ", "[", 500000, "\r\n");
	flooded_by(text);
	command_ends(-EBADMSG);
	assert_non_null(strstr(s.err.msg, "nested"));
	end(state);
	free(text);
}

static void brackets_in_a_text_are_no_values(void **state)
{
	char *text = repeated("{\"return\": \"\\\"", "[{,", 100000, "\", \"id\": 2}\r\n");
	flooded_by(text);
	command_ends(0);
	end(state);
	free(text);
}

/* Of the largest that each of the bounds lets through: as the documents say, 16 MiB a session. */
static void a_session_never_takes_more_than_16_mib(void **state)
{
	char *values =
		repeated("{\"event\": \"STOP\", \"data\": {\"x\": [", "{},", 32000, "{}]}}\r\n");
	char *kept =
		repeated("{\"event\": \"STOP\", \"data\": {\"x\": [", "{},", 5000, "{}]}}\r\n");
	char *both = repeated(values, kept, 3, "");
	size_t before = resident(), most = 0;
	flooded_by(both);
	for (int i = 0; i < 3; i++) {
		qmp_wait_event(s.q, "NEVER", mc_now() + WAIT, NULL, NULL);
		if (resident() > most)
			most = resident();
	}
	if (most > before + 16 * 1024)
		fail_msg("%zu KiB more are resident", most - before);
	end(state);
	free(values);
	free(kept);
	free(both);
}

static void only_wanted_events_are_kept(void **state)
{
	static const char *const names[] = {"STOP", NULL};
	flooded_by("{\"event\": \"RTC_CHANGE\"}\r\n{\"event\": \"STOP\"}\r\n{\"event\": 7}\r\n");
	qmp_want_events(s.q, names);
	json_t *e = NULL;
	while (!atomic_load(&s.flooding))
		usleep(1000);
	assert_int_equal(qmp_next_event(s.q, &e), 1);
	assert_string_equal(json_string_value(json_object_get(e, "event")), "STOP");
	json_decref(e);
	assert_int_equal(qmp_next_event(s.q, &e), -EBADMSG);
}

static void a_name_that_leads_elsewhere_is_not_followed(void **state)
{
	char other[80];
	flooded_by("");
	snprintf(other, sizeof other, "%s/link", s.dir);
	assert_int_equal(symlink(s.path, other), 0);
	struct qmp *q = NULL;
	assert_true(qmp_open(other, false, mc_now() + WAIT, &q, &s.err) < 0);
	assert_null(q);
	unlink(other);
}

#define T(f) cmocka_unit_test_teardown(f, end)
#define O(f) cmocka_unit_test(f) /* ends by itself */

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_flood_of_events_does_not_outlast_a_deadline),
		T(bytes_without_a_newline_do_not_outlast_a_deadline),
		T(waiting_for_an_event_ends_under_a_flood),
		T(taking_events_ends_under_a_flood),
		O(a_message_of_nothing_but_values_costs_nothing),
		O(nesting_is_bounded),
		O(brackets_in_a_text_are_no_values),
		O(a_session_never_takes_more_than_16_mib),
		T(only_wanted_events_are_kept),
		T(a_name_that_leads_elsewhere_is_not_followed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
