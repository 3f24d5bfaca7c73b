/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The QMP session against a scripted server in a thread: everything that QEMU could do to us. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/clock.h"
#include "common/qmp.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define GREETING                                                                                   \
	"{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, "         \
	"\"package\": \"\"}, \"capabilities\": [\"oob\"]}}\r\n"
#define EVENT(name)                                                                                \
	"{\"event\": \"" name "\", \"timestamp\": {\"seconds\": 1, \"microseconds\": 2}}\r\n"

/* --- the server ------------------------------------------------------------------------------- */

struct fake {
	char dir[32], path[64];
	int listener;
	pthread_t thread;
	void (*script)(int conn);
	struct qmp *q;
	struct mc_error err;
};

static void say(int conn, const char *text)
{
	size_t len = strlen(text);
	while (len) {
		ssize_t n = send(conn, text, len, MSG_NOSIGNAL);
		if (n < 0)
			return; /* the session has given us up: fine in many tests */
		text += n;
		len -= (size_t)n;
	}
}

/* Reads one command; returns its id. */
static unsigned long hear(int conn, char *buf, size_t size)
{
	size_t n = 0;
	while (n + 1 < size && (n == 0 || buf[n - 1] != '\n') && recv(conn, buf + n, 1, 0) == 1)
		n++;
	buf[n] = '\0';
	char *id = strstr(buf, "\"id\":");
	return id ? strtoul(id + 5, NULL, 10) : 0;
}

static void answer(int conn, unsigned long id, const char *member)
{
	char *line;
	if (asprintf(&line, "{%s, \"id\": %lu}\r\n", member, id) < 0)
		return;
	say(conn, line);
	free(line);
}

static void obey(int conn, const char *member)
{
	char buf[4096];
	answer(conn, hear(conn, buf, sizeof buf), member);
}

static void greet(int conn)
{
	say(conn, GREETING);
	obey(conn, "\"return\": {}");
}

/* Until the session closes, so that nothing looks like a closing server by accident. */
static void wait_close(int conn)
{
	char buf[4096];
	while (recv(conn, buf, sizeof buf, 0) > 0)
		;
}

static void *serve(void *arg)
{
	struct fake *f = arg;
	int conn = accept(f->listener, NULL, NULL);
	if (conn >= 0) {
		f->script(conn);
		close(conn);
	}
	return NULL;
}

static void start(struct fake *f, void (*script)(int conn))
{
	*f = (struct fake){.script = script, .err = MC_ERROR_INIT};
	strcpy(f->dir, "/tmp/test-qmp-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof f->path, "%s/qmp", f->dir);
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	strcpy(sa.sun_path, f->path);
	f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(f->listener, (struct sockaddr *)&sa, sizeof sa), 0);
	assert_int_equal(listen(f->listener, 1), 0);
	assert_int_equal(pthread_create(&f->thread, NULL, serve, f), 0);
}

static int open_within(struct fake *f, uint64_t ns)
{
	return qmp_open(f->path, false, mc_now() + ns, &f->q, &f->err);
}

static void start_open(struct fake *f, void (*script)(int conn))
{
	start(f, script);
	if (open_within(f, 10 * MC_SEC) < 0)
		fail_msg("%s", f->err.msg);
}

static void stop(struct fake *f)
{
	qmp_close(f->q);
	pthread_join(f->thread, NULL);
	close(f->listener);
	unlink(f->path);
	rmdir(f->dir);
}

static int command(struct fake *f, const char *name)
{
	return qmp_command(f->q, name, NULL, 10 * MC_SEC, NULL, &f->err);
}

static void assert_message(struct fake *f, const char *cls, const char *part)
{
	assert_string_equal(f->err.cls, cls);
	if (!strstr(f->err.msg, part))
		fail_msg("\"%s\" is not in \"%s\"", part, f->err.msg);
}

static void assert_next_event(struct fake *f, const char *name)
{
	json_t *e = NULL;
	assert_int_equal(qmp_next_event(f->q, &e), 1);
	assert_string_equal(json_string_value(json_object_get(e, "event")), name);
	json_decref(e);
}

/* --- opening ---------------------------------------------------------------------------------- */

static void script_silent(int conn)
{
	wait_close(conn);
}
static void script_garbage(int conn)
{
	say(conn, "SSH-2.0-OpenSSH_9.2\x01\xff\r\n");
	wait_close(conn);
}
static void script_other_json(int conn)
{
	say(conn, "{\"QMP\": {\"version\": \"new\"}}\r\n");
	wait_close(conn);
}
static void script_half_greeting(int conn)
{
	say(conn, "{\"QMP\": {\"ver");
}
static void script_no_oob(int conn)
{
	say(conn,
		"{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 0, \"minor\": 11, \"major\": 2}}, "
		"\"capabilities\": []}}\r\n");
	wait_close(conn);
}
static void script_greet(int conn)
{
	greet(conn);
	wait_close(conn);
}

static void opening_takes_the_greeting(void **state)
{
	struct fake f;
	start_open(&f, script_greet);
	assert_true(qmp_fd(f.q) >= 0);
	stop(&f);
}

static void opening_without_a_greeting_ends_in_time(void **state)
{
	struct fake f;
	start(&f, script_silent);
	uint64_t t = mc_now();
	assert_int_equal(open_within(&f, 50 * MC_MSEC), -ETIMEDOUT);
	assert_true(mc_now() - t < 5 * MC_SEC);
	assert_message(&f, MC_ECLASS_TIMEOUT, "no QMP greeting");
	stop(&f);
}

static void opening_what_is_no_qmp_is_refused(void **state)
{
	struct fake f;
	start(&f, script_garbage);
	assert_int_equal(open_within(&f, 10 * MC_SEC), -EBADMSG);
	assert_message(&f, MC_ECLASS_QMP, "SSH-2.0-OpenSSH_9.2??");
	stop(&f);
	start(&f, script_other_json);
	assert_int_equal(open_within(&f, 10 * MC_SEC), -EBADMSG);
	assert_message(&f, MC_ECLASS_QMP, "names no version");
	stop(&f);
}

static void a_greeting_cut_short_is_a_closed_session(void **state)
{
	struct fake f;
	start(&f, script_half_greeting);
	assert_int_equal(open_within(&f, 10 * MC_SEC), -EPIPE);
	assert_message(&f, MC_ECLASS_QMP, "in the middle of a message");
	stop(&f);
}

static void opening_for_oob_needs_a_qemu_that_has_it(void **state)
{
	struct fake f;
	start(&f, script_no_oob);
	assert_int_equal(qmp_open(f.path, true, mc_now() + 10 * MC_SEC, &f.q, &f.err), -ENOTSUP);
	assert_message(&f, MC_ECLASS_GUEST, "out-of-band");
	stop(&f);
}

struct late {
	const char *from, *to;
};
static void *rename_later(void *arg)
{
	struct late *l = arg;
	poll(NULL, 0, 30);
	rename(l->from, l->to);
	return NULL;
}

static void opening_waits_for_a_socket_that_comes_late(void **state)
{
	struct fake f;
	start(&f, script_greet);
	char there[sizeof f.path + 4], here[sizeof f.path];
	strcpy(here, f.path);
	snprintf(there, sizeof there, "%s.new", f.path);
	assert_int_equal(rename(here, there), 0);
	struct late l = {there, here};
	pthread_t t;
	assert_int_equal(pthread_create(&t, NULL, rename_later, &l), 0);
	assert_int_equal(open_within(&f, 10 * MC_SEC), 0);
	pthread_join(t, NULL);
	stop(&f);
}

static void opening_gives_up_at_the_deadline(void **state)
{
	struct mc_error err = MC_ERROR_INIT;
	struct qmp *q = NULL;
	assert_int_equal(
		qmp_open("/tmp/no-such-directory/qmp", false, mc_now() + 20 * MC_MSEC, &q, &err),
		-ETIMEDOUT);
	assert_non_null(strstr(err.msg, "/tmp/no-such-directory/qmp"));
	assert_null(q);
}

static void opening_gives_up_when_qemu_is_gone(void **state)
{
	struct mc_error err = MC_ERROR_INIT;
	struct qmp *q = NULL;
	int p[2];
	assert_int_equal(pipe(p), 0);
	close(p[1]); /* "readable", as the pidfd of a dead process is */
	uint64_t t = mc_now();
	assert_int_equal(qmp_open_watch("/tmp/no-such-directory/qmp", false, p[0], t + 60 * MC_SEC,
				 &q, &err),
		-EPIPE);
	assert_true(mc_now() - t < 10 * MC_SEC);
	close(p[0]);
}

static void a_path_too_long_for_a_socket_is_named(void **state)
{
	struct mc_error err = MC_ERROR_INIT;
	struct qmp *q = NULL;
	char path[200];
	memset(path, 'x', sizeof path - 1);
	path[sizeof path - 1] = '\0';
	assert_int_equal(qmp_open(path, false, mc_now() + MC_SEC, &q, &err), -ENAMETOOLONG);
	assert_non_null(strstr(err.msg, "run-dir"));
}

/* --- answers ---------------------------------------------------------------------------------- */

static void script_answer_number(int conn)
{
	greet(conn);
	obey(conn, "\"return\": {\"x\": 18446744073709551615, \"y\": 5}");
	wait_close(conn);
}

static void an_answer_is_handed_over_even_with_uint64(void **state)
{
	struct fake f;
	start_open(&f, script_answer_number);
	json_t *result = NULL;
	assert_int_equal(qmp_command(f.q, "query-x", json_pack("{s:i}", "a", 1), 10 * MC_SEC,
				 &result, &f.err),
		0);
	assert_true(json_number_value(json_object_get(result, "y")) == 5);
	json_decref(result);
	stop(&f);
}

static void script_error(int conn)
{
	greet(conn);
	obey(conn, "\"error\": {\"class\": \"GenericError\", \"desc\": \"No disk today\"}");
	obey(conn, "\"return\": {}");
	wait_close(conn);
}

static void an_error_carries_qemus_sentence_and_the_session_lives(void **state)
{
	struct fake f;
	start_open(&f, script_error);
	assert_int_equal(command(&f, "query-disk"), -EREMOTEIO);
	assert_message(&f, MC_ECLASS_QMP, "QEMU refused query-disk: No disk today");
	assert_int_equal(command(&f, "stop"), 0);
	stop(&f);
}

#define WRONG(name, text)                                                                          \
	static void script_##name(int conn)                                                        \
	{                                                                                          \
		greet(conn);                                                                       \
		obey(conn, text);                                                                  \
		wait_close(conn);                                                                  \
	}
WRONG(error_no_object, "\"error\": \"no\"")
WRONG(error_no_text, "\"error\": {\"class\": \"GenericError\", \"desc\": 5}")
WRONG(neither, "\"returned\": {}")
WRONG(event_number, "\"event\": 5")
WRONG(event_data, "\"event\": \"STOP\", \"data\": [1]")
WRONG(not_json, "\"return\": {")
WRONG(second_greeting, "\"QMP\": {}")

static void answers_of_the_wrong_form_break_the_session(void **state)
{
	void (*const scripts[])(int) = {script_error_no_object, script_error_no_text,
		script_neither, script_event_number, script_event_data, script_not_json,
		script_second_greeting};
	for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++) {
		struct fake f;
		start_open(&f, scripts[i]);
		json_t *result = NULL;
		assert_int_equal(
			qmp_command(f.q, "stop", NULL, 10 * MC_SEC, &result, &f.err), -EBADMSG);
		assert_string_equal(f.err.cls, MC_ECLASS_QMP);
		assert_null(result);
		assert_int_equal(command(&f, "cont"), -EPIPE);
		assert_message(&f, MC_ECLASS_QMP, "broke before");
		stop(&f);
	}
}

static void script_unknown_ids(int conn)
{
	char buf[4096];
	greet(conn);
	unsigned long id = hear(conn, buf, sizeof buf);
	answer(conn, id - 1, "\"return\": {\"wrong\": 1}");
	answer(conn, id + 1, "\"error\": {\"class\": \"GenericError\", \"desc\": \"wrong\"}");
	say(conn,
		"{\"return\": {\"wrong\": 1}}\r\n{\"return\": {\"wrong\": 1}, \"id\": \"a\"}\r\n");
	answer(conn, id, "\"return\": {\"right\": 1}");
	wait_close(conn);
}

static void answers_to_somebody_else_are_dropped(void **state)
{
	struct fake f;
	start_open(&f, script_unknown_ids);
	json_t *result = NULL;
	assert_int_equal(qmp_command(f.q, "query-x", NULL, 10 * MC_SEC, &result, &f.err), 0);
	assert_non_null(json_object_get(result, "right"));
	json_decref(result);
	stop(&f);
}

static void script_giant(int conn)
{
	static char mib[(1 << 20) + 1];
	greet(conn);
	memset(mib, ' ', sizeof mib - 1);
	for (int i = 0; i < 20; i++)
		say(conn, mib);
}
static void script_big(int conn)
{
	static char text[(900 << 10) + 64];
	greet(conn);
	memset(text, 'x', sizeof text - 1);
	memcpy(text, "\"return\": \"", 11);
	text[sizeof text - 2] = '"';
	obey(conn, text);
	obey(conn, "\"return\": {}");
	wait_close(conn);
}

static void a_line_without_end_is_refused_at_1_mib(void **state)
{
	struct fake f;
	start_open(&f, script_giant);
	assert_int_equal(command(&f, "stop"), -EBADMSG);
	assert_message(&f, MC_ECLASS_QMP, "1 MiB");
	stop(&f);
}

static void a_large_answer_is_read(void **state)
{
	struct fake f;
	start_open(&f, script_big);
	json_t *result = NULL;
	assert_int_equal(qmp_command(f.q, "query-x", NULL, 10 * MC_SEC, &result, &f.err), 0);
	assert_int_equal(json_string_length(result), (900 << 10) + 64 - 13);
	json_decref(result);
	assert_int_equal(command(&f, "stop"), 0);
	stop(&f);
}

/* Locked by a test: keeps the server from going on. */
static pthread_mutex_t hold = PTHREAD_MUTEX_INITIALIZER;

static void script_deaf_once(int conn)
{
	char buf[4096];
	greet(conn);
	unsigned long id = hear(conn, buf, sizeof buf);
	pthread_mutex_lock(&hold);
	answer(conn, id, "\"return\": {}"); /* too late */
	pthread_mutex_unlock(&hold);
	wait_close(conn);
}

static void silence_ends_in_time_and_breaks_the_session(void **state)
{
	struct fake f;
	start_open(&f, script_deaf_once);
	pthread_mutex_lock(&hold);
	assert_int_equal(qmp_command(f.q, "stop", NULL, 20 * MC_MSEC, NULL, &f.err), -ETIMEDOUT);
	pthread_mutex_unlock(&hold);
	assert_message(&f, MC_ECLASS_TIMEOUT, "stop within 20 ms");
	assert_int_equal(command(&f, "cont"), -EPIPE);
	assert_message(&f, MC_ECLASS_QMP, "stop within 20 ms");
	stop(&f);
}

static void script_never_reads(int conn)
{
	greet(conn);
	pthread_mutex_lock(&hold);
	pthread_mutex_unlock(&hold);
}

static void a_server_that_does_not_read_ends_in_time(void **state)
{
	struct fake f;
	pthread_mutex_lock(&hold);
	start_open(&f, script_never_reads);
	char *big = malloc((4 << 20) + 1);
	memset(big, 'y', 4 << 20);
	big[4 << 20] = '\0';
	json_t *args = json_pack("{s:s}", "a", big);
	free(big);
	assert_int_equal(qmp_command(f.q, "x", args, 50 * MC_MSEC, NULL, &f.err), -ETIMEDOUT);
	assert_message(&f, MC_ECLASS_TIMEOUT, "does not read");
	pthread_mutex_unlock(&hold);
	stop(&f);
}

/* --- events ----------------------------------------------------------------------------------- */

static void script_events(int conn)
{
	char buf[4096];
	greet(conn);
	unsigned long id = hear(conn, buf, sizeof buf);
	say(conn, EVENT("A") EVENT("B"));
	answer(conn, id, "\"return\": {}");
	say(conn, "{\"event\": \"C\", \"data\": {\"n\": 7}}\r\n" EVENT("D"));
	obey(conn, "\"return\": {}");
	wait_close(conn);
}

static void events_between_answers_are_kept_in_order(void **state)
{
	struct fake f;
	start_open(&f, script_events);
	assert_int_equal(command(&f, "stop"), 0);
	assert_int_equal(command(&f, "cont"), 0);
	assert_next_event(&f, "A");
	assert_next_event(&f, "B");
	assert_next_event(&f, "C");
	assert_next_event(&f, "D");
	json_t *e;
	assert_int_equal(qmp_next_event(f.q, &e), 0);
	stop(&f);
}

static void waiting_for_an_event_takes_it_from_the_middle(void **state)
{
	struct fake f;
	start_open(&f, script_events);
	assert_int_equal(command(&f, "stop"), 0);
	json_t *data = NULL;
	assert_int_equal(qmp_wait_event(f.q, "C", mc_now() + 10 * MC_SEC, &data, &f.err), 0);
	assert_int_equal(json_integer_value(json_object_get(data, "n")), 7);
	json_decref(data);
	assert_int_equal(qmp_wait_event(f.q, "B", mc_now() + 10 * MC_SEC, &data, &f.err), 0);
	assert_null(data);
	assert_int_equal(command(&f, "cont"), 0);
	assert_next_event(&f, "A");
	assert_next_event(&f, "D");
	stop(&f);
}

static void an_event_that_does_not_come_leaves_the_session_good(void **state)
{
	struct fake f;
	start_open(&f, script_error);
	assert_int_equal(
		qmp_wait_event(f.q, "RESUME", mc_now() + 20 * MC_MSEC, NULL, &f.err), -ETIMEDOUT);
	assert_message(&f, MC_ECLASS_TIMEOUT, "RESUME");
	assert_int_equal(command(&f, "a"), -EREMOTEIO);
	assert_int_equal(command(&f, "b"), 0);
	stop(&f);
}

static void script_flood(int conn)
{
	char buf[4096], line[128];
	greet(conn);
	unsigned long id = hear(conn, buf, sizeof buf);
	for (int i = 0; i < 300; i++) {
		snprintf(line, sizeof line, "{\"event\": \"E%d\"}\r\n", i);
		say(conn, line);
	}
	answer(conn, id, "\"return\": {}");
	say(conn, EVENT("LAST"));
	wait_close(conn);
}

static void a_flood_of_events_drops_the_oldest(void **state)
{
	struct fake f;
	start_open(&f, script_flood);
	assert_int_equal(command(&f, "stop"), 0);
	assert_int_equal(qmp_wait_event(f.q, "LAST", mc_now() + 10 * MC_SEC, NULL, &f.err), 0);
	assert_next_event(&f, "E45");
	assert_int_equal(qmp_wait_event(f.q, "E299", mc_now(), NULL, &f.err), 0);
	assert_next_event(&f, "E46");
	stop(&f);
}

static void script_die_telling(int conn)
{
	char buf[4096];
	greet(conn);
	hear(conn, buf, sizeof buf);
	say(conn, EVENT("SHUTDOWN") "{\"event\": \"HA");
}

static void last_words_of_a_closing_qemu_are_heard(void **state)
{
	struct fake f;
	start_open(&f, script_die_telling);
	assert_int_equal(command(&f, "stop"), -EPIPE);
	assert_next_event(&f, "SHUTDOWN");
	json_t *e;
	assert_int_equal(qmp_next_event(f.q, &e), -EPIPE);
	stop(&f);
}

/* --- more than plain commands ----------------------------------------------------------------- */

static void script_oob(int conn)
{
	char buf[4096];
	say(conn, GREETING);
	unsigned long id = hear(conn, buf, sizeof buf);
	answer(conn, id,
		strstr(buf, "\"enable\":[\"oob\"]")
			? "\"return\": {}"
			: "\"error\": {\"class\": \"x\", \"desc\": \"oob not enabled\"}");
	id = hear(conn, buf, sizeof buf);
	answer(conn, id,
		strstr(buf, "\"exec-oob\":\"yank\"")
			? "\"return\": {}"
			: "\"error\": {\"class\": \"x\", \"desc\": \"not out of band\"}");
	wait_close(conn);
}

static void an_oob_command_goes_out_of_band(void **state)
{
	struct fake f;
	start(&f, script_oob);
	assert_int_equal(qmp_open(f.path, true, mc_now() + 10 * MC_SEC, &f.q, &f.err), 0);
	assert_int_equal(
		qmp_oob(f.q, "yank", json_pack("{s:[]}", "instances"), 10 * MC_SEC, NULL, &f.err),
		0);
	stop(&f);
}

static void script_hmp(int conn)
{
	char buf[4096];
	greet(conn);
	unsigned long id = hear(conn, buf, sizeof buf);
	answer(conn, id,
		strstr(buf, "{\"command-line\":\"info \\\"x\\\"\"}")
			? "\"return\": \"one\\r\\ntwo\""
			: "\"return\": \"\"");
	obey(conn, "\"return\": {}");
	wait_close(conn);
}

static void the_human_monitor_answers_with_text(void **state)
{
	struct fake f;
	start_open(&f, script_hmp);
	char *text = NULL;
	assert_int_equal(qmp_hmp(f.q, "info \"x\"", 10 * MC_SEC, &text, &f.err), 0);
	assert_string_equal(text, "one\r\ntwo");
	free(text);
	text = NULL;
	assert_int_equal(qmp_hmp(f.q, "info y", 10 * MC_SEC, &text, &f.err), -EBADMSG);
	assert_null(text);
	stop(&f);
}

static void script_commands(int conn)
{
	greet(conn);
	for (int i = 0; i < 2; i++)
		obey(conn, "\"return\": [{\"name\": \"stop\"}, 5, {\"name\": \"cont\"}]");
	wait_close(conn);
}

static void every_missing_command_is_named(void **state)
{
	struct fake f;
	start_open(&f, script_commands);
	assert_int_equal(
		qmp_require_commands(f.q, (const char *[]){"cont", "stop", NULL}, &f.err), 0);
	assert_int_equal(
		qmp_require_commands(f.q, (const char *[]){"yank", "stop", "quit", NULL}, &f.err),
		-ENOTSUP);
	assert_message(&f, MC_ECLASS_GUEST, "yank, quit");
	assert_message(&f, MC_ECLASS_GUEST, "7.2.22");
	stop(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(opening_takes_the_greeting),
		cmocka_unit_test(opening_without_a_greeting_ends_in_time),
		cmocka_unit_test(opening_what_is_no_qmp_is_refused),
		cmocka_unit_test(a_greeting_cut_short_is_a_closed_session),
		cmocka_unit_test(opening_for_oob_needs_a_qemu_that_has_it),
		cmocka_unit_test(opening_waits_for_a_socket_that_comes_late),
		cmocka_unit_test(opening_gives_up_at_the_deadline),
		cmocka_unit_test(opening_gives_up_when_qemu_is_gone),
		cmocka_unit_test(a_path_too_long_for_a_socket_is_named),
		cmocka_unit_test(an_answer_is_handed_over_even_with_uint64),
		cmocka_unit_test(an_error_carries_qemus_sentence_and_the_session_lives),
		cmocka_unit_test(answers_of_the_wrong_form_break_the_session),
		cmocka_unit_test(answers_to_somebody_else_are_dropped),
		cmocka_unit_test(a_line_without_end_is_refused_at_1_mib),
		cmocka_unit_test(a_large_answer_is_read),
		cmocka_unit_test(silence_ends_in_time_and_breaks_the_session),
		cmocka_unit_test(a_server_that_does_not_read_ends_in_time),
		cmocka_unit_test(events_between_answers_are_kept_in_order),
		cmocka_unit_test(waiting_for_an_event_takes_it_from_the_middle),
		cmocka_unit_test(an_event_that_does_not_come_leaves_the_session_good),
		cmocka_unit_test(a_flood_of_events_drops_the_oldest),
		cmocka_unit_test(last_words_of_a_closing_qemu_are_heard),
		cmocka_unit_test(an_oob_command_goes_out_of_band),
		cmocka_unit_test(the_human_monitor_answers_with_text),
		cmocka_unit_test(every_missing_command_is_named),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
