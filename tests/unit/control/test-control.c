/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The control socket on a real loop: what it answers, and what it survives. */
#include "control-harness.h"

#include "mcd/control/request.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cmocka.h>

static int setup(void **state)
{
	*state = harness_start();
	return 0;
}

static int teardown(void **state)
{
	harness_stop(*state);
	return 0;
}

/* Sends a line, expects an error of that class whose message contains `part`, and that the
 * connection still serves. */
static void expect_error(int fd, const char *line, const char *cls, const char *part)
{
	json_t *answer = client_ask(fd, line);
	assert_non_null(answer);
	assert_non_null(answer_class(answer));
	assert_string_equal(answer_class(answer), cls);
	if (!strstr(answer_message(answer), part))
		fail_msg("'%s' is not in '%s'", part, answer_message(answer));
	json_decref(answer);
	answer = client_ask(fd, "{\"execute\":\"echo\",\"arguments\":{\"text\":\"alive\"}}");
	assert_non_null(json_object_get(answer, "return"));
	json_decref(answer);
}

static void greeting_names_version_protocol_and_host(void **state)
{
	int fd = client_connect_raw(harness_path(*state));
	json_t *greeting = client_read(fd), *mcd = json_object_get(greeting, "mcd");
	assert_string_equal(json_string_value(json_object_get(mcd, "host")), "hostA");
	assert_int_equal(json_integer_value(json_object_get(mcd, "protocol")), 1);
	assert_true(json_is_string(json_object_get(mcd, "version")));
	json_decref(greeting);
	close(fd);
}

static void answer_carries_the_request_id_of_any_type(void **state)
{
	static const char *const ids[] = {"7", "\"seven\"", "null", "{\"a\":[1]}", "1.5"};
	int fd = client_connect(*state);
	for (size_t i = 0; i < 5; i++) {
		char line[128];
		snprintf(line, sizeof line,
			"{\"id\":%s,\"execute\":\"echo\",\"arguments\":{\"text\":\"t\",\"number\":3,\"flag\":true}}",
			ids[i]);
		json_t *answer = client_ask(fd, line),
		       *id = json_loads(ids[i], JSON_DECODE_ANY, NULL);
		assert_true(json_equal(json_object_get(answer, "id"), id));
		json_t *ret = json_object_get(answer, "return");
		assert_int_equal(json_integer_value(json_object_get(ret, "number")), 3);
		json_decref(answer);
		json_decref(id);
	}
	close(fd);
}

static void bad_requests_get_an_error_and_the_connection_stays(void **state)
{
	int fd = client_connect(*state);
	expect_error(fd, "hello", "BadRequest", "not a line of JSON");
	expect_error(fd, "{\"execute\":\"echo\"", "BadRequest", "not a line of JSON");
	expect_error(fd, "[1,2]", "BadRequest", "not an object");
	expect_error(fd, "{\"execute\":\"fail\",\"execute\":\"fail\"}", "BadRequest", "duplicate");
	expect_error(fd, "{}", "BadRequest", "'execute'");
	expect_error(fd, "{\"execute\":1}", "BadRequest", "'execute'");
	expect_error(
		fd, "{\"execute\":\"fail\",\"arguments\":[]}", "BadRequest", "must be an object");
	expect_error(fd, "{\"execute\":\"fail\",\"argument\":{}}", "BadRequest", "'arguments'?");
	expect_error(fd, "{\"execute\":\"ecko\"}", "BadRequest", "did you mean 'echo'");
	expect_error(fd, "{\"execute\":\"echo\"}", "InvalidArgument", "needs the argument 'text'");
	expect_error(fd, "{\"execute\":\"echo\",\"arguments\":{\"text\":1}}", "InvalidArgument",
		"a string");
	expect_error(fd, "{\"execute\":\"echo\",\"arguments\":{\"text\":\"\",\"number\":\"3\"}}",
		"InvalidArgument", "a whole number");
	expect_error(fd, "{\"execute\":\"echo\",\"arguments\":{\"text\":\"\",\"flag\":1}}",
		"InvalidArgument", "true or false");
	expect_error(fd, "{\"execute\":\"echo\",\"arguments\":{\"txt\":\"\"}}", "InvalidArgument",
		"did you mean 'text'");
	expect_error(fd, "{\"execute\":\"hold\",\"arguments\":{\"vm\":\"\"}}", "InvalidArgument",
		"takes no arguments");
	expect_error(fd, "{\"execute\":\"events\",\"arguments\":{\"histori\":true}}",
		"InvalidArgument", "did you mean 'history'");
	expect_error(fd, "{\"execute\":\"echo\",\"arguments\":{\"text\":\"\\u0000\"}}",
		"BadRequest", "JSON");
	close(fd);
}

static void id_is_echoed_in_errors_when_it_could_be_read(void **state)
{
	int fd = client_connect(*state);
	json_t *answer = client_ask(fd, "{\"id\":12,\"execute\":\"nothing-like-it\"}");
	assert_int_equal(json_integer_value(json_object_get(answer, "id")), 12);
	json_decref(answer);
	answer = client_ask(fd, "{\"id\":12,");
	assert_true(json_is_null(json_object_get(answer, "id")));
	json_decref(answer);
	close(fd);
}

static void failure_of_a_verb_travels_as_class_and_message(void **state)
{
	int fd = client_connect(*state);
	json_t *answer = client_ask(fd, "{\"execute\":\"fail\"}");
	assert_string_equal(answer_class(answer), "UnknownVm");
	assert_string_equal(answer_message(answer), "There is no VM 'vm?'; look again.");
	json_decref(answer);
	close(fd);
}

static void line_of_the_greatest_length_is_served(void **state)
{
	static char line[CONTROL_LINE_MAX + 1];
	const char *head = "{\"execute\":\"echo\",\"arguments\":{\"text\":\"";
	memset(line, 'x', sizeof line);
	memcpy(line, head, strlen(head));
	memcpy(line + CONTROL_LINE_MAX - 3, "\"}}\n", 4);
	int fd = client_connect(*state);
	client_write(fd, line, sizeof line);
	json_t *answer = client_read(fd);
	assert_non_null(json_object_get(answer, "return"));
	json_decref(answer);
	close(fd);
}

static void longer_line_gets_an_error_and_the_connection_is_closed(void **state)
{
	static char line[CONTROL_LINE_MAX + 1];
	memset(line, 'x', sizeof line);
	int fd = client_connect(*state);
	client_write(fd, line, sizeof line);
	json_t *answer = client_read(fd);
	assert_string_equal(answer_class(answer), "BadRequest");
	json_decref(answer);
	assert_null(client_read(fd));
	close(fd);
}

static void partial_line_may_idle_while_others_are_served(void **state)
{
	int slow = client_connect(*state), other = client_connect(*state);
	client_write(slow, "{\"execute\":\"echo\",\"argu", 23);
	json_t *answer = client_ask(other, "{\"execute\":\"echo\",\"arguments\":{\"text\":\"a\"}}");
	assert_non_null(json_object_get(answer, "return"));
	json_decref(answer);
	answer = client_ask(slow, "ments\":{\"text\":\"b\"}}");
	assert_non_null(json_object_get(answer, "return"));
	json_decref(answer);
	close(slow);
	close(other);
}

static void many_requests_in_one_write_are_answered_in_order(void **state)
{
	static char lines[400 * 80];
	size_t n = 0;
	for (int i = 0; i < 400; i++)
		n += (size_t)snprintf(lines + n, sizeof lines - n,
			"{\"id\":%d,\"execute\":\"echo\",\"arguments\":{\"text\":\"t\"}}\n\n", i);
	int fd = client_connect(*state);
	client_write(fd, lines, n);
	for (int i = 0; i < 400; i++) {
		json_t *answer = client_read(fd);
		assert_int_equal(json_integer_value(json_object_get(answer, "id")), i);
		json_decref(answer);
	}
	close(fd);
}

static void client_number_65_is_refused_until_one_leaves(void **state)
{
	int fds[64];
	for (size_t i = 0; i < 64; i++)
		fds[i] = client_connect(*state);
	int extra = client_connect_raw(harness_path(*state));
	json_t *line = client_read(extra);
	assert_string_equal(answer_class(line), "Failed");
	json_decref(line);
	assert_null(client_read(extra));
	close(extra);
	/* The loop sees the hang-up before it answers another client's request. */
	close(fds[0]);
	json_decref(client_ask(fds[1], "{\"execute\":\"fail\"}"));
	json_decref(client_ask(fds[1], "{\"execute\":\"fail\"}"));
	fds[0] = client_connect(*state);
	for (size_t i = 0; i < 64; i++)
		close(fds[i]);
}

static void another_user_is_refused_without_a_greeting(void **state)
{
	if (geteuid() != 0) {
		print_message("needs root to become another user\n");
		skip();
	}
	/* SO_PEERCRED is the identity at connect.  A raw system call, because the library's would
	 * change the server's thread too. */
	chmod(harness_path(*state), 0666);
	char dir[128];
	snprintf(dir, sizeof dir, "%s", harness_path(*state));
	*strrchr(dir, '/') = '\0';
	chmod(dir, 0755);
	assert_int_equal(syscall(SYS_setresuid, -1, 65534, -1), 0);
	int fd = client_connect_raw(harness_path(*state));
	assert_int_equal(syscall(SYS_setresuid, -1, 0, -1), 0);
	json_t *line = client_read(fd);
	assert_non_null(answer_class(line));
	assert_string_equal(answer_class(line), "NoPermission");
	json_decref(line);
	assert_null(client_read(fd));
	close(fd);
}

static void socket_is_for_its_owner_only(void **state)
{
	struct stat st;
	assert_int_equal(stat(harness_path(*state), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

static const struct control_verb no_verbs[] = {{0}};

static void second_daemon_on_the_same_path_is_refused(void **state)
{
	sd_event *loop;
	struct control *second = NULL;
	struct mc_error err = MC_ERROR_INIT;
	assert_true(sd_event_new(&loop) >= 0);
	int r = control_new(loop, harness_path(*state), "hostA", no_verbs, NULL, &second, &err);
	assert_true(r < 0);
	assert_string_equal(err.cls, "WrongState");
	assert_null(second);
	sd_event_unref(loop);
	close(client_connect(*state)); /* the first one is untouched */
}

static void stale_socket_is_replaced_but_a_file_is_not(void **state)
{
	char dir[] = "/tmp/mcd-control-XXXXXX", path[64], lock[80];
	sd_event *loop;
	struct control *c = NULL;
	struct mc_error err = MC_ERROR_INIT;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/s", dir);
	snprintf(lock, sizeof lock, "%s.lock", path);
	assert_true(sd_event_new(&loop) >= 0);

	FILE *f = fopen(path, "w");
	fclose(f);
	assert_true(control_new(loop, path, "hostA", no_verbs, NULL, &c, &err) < 0);
	assert_int_equal(access(path, F_OK), 0);
	unlink(path);

	assert_int_equal(control_new(loop, path, "hostA", no_verbs, NULL, &c, &err), 0);
	char kept[80];
	snprintf(kept, sizeof kept, "%s.kept", path);
	assert_int_equal(link(path, kept), 0); /* what a killed daemon leaves behind */
	control_free(c);
	assert_int_equal(rename(kept, path), 0);
	assert_int_equal(control_new(loop, path, "hostA", no_verbs, NULL, &c, &err), 0);
	control_free(c);
	sd_event_unref(loop);
	unlink(lock);
	assert_int_equal(rmdir(dir), 0);
}

static void path_too_long_for_a_socket_is_refused(void **state)
{
	char path[200];
	sd_event *loop;
	struct control *c;
	struct mc_error err = MC_ERROR_INIT;
	memset(path, 'x', sizeof path - 1);
	path[sizeof path - 1] = '\0';
	assert_true(sd_event_new(&loop) >= 0);
	assert_true(control_new(loop, path, "hostA", no_verbs, NULL, &c, &err) < 0);
	assert_string_equal(err.cls, "ConfigError");
	sd_event_unref(loop);
}

static void half_closed_client_still_gets_its_answer(void **state)
{
	int fd = client_connect(*state);
	client_say(fd, "{\"id\":1,\"execute\":\"hold\"}");
	shutdown(fd, SHUT_WR);
	struct control_request *req = harness_held(*state);
	assert_non_null(req);
	control_answer(req, NULL);
	json_t *answer = client_read(fd);
	assert_non_null(json_object_get(answer, "return"));
	json_decref(answer);
	assert_null(client_read(fd));
	close(fd);
}

#define RUN(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RUN(greeting_names_version_protocol_and_host),
		RUN(answer_carries_the_request_id_of_any_type),
		RUN(bad_requests_get_an_error_and_the_connection_stays),
		RUN(id_is_echoed_in_errors_when_it_could_be_read),
		RUN(failure_of_a_verb_travels_as_class_and_message),
		RUN(line_of_the_greatest_length_is_served),
		RUN(longer_line_gets_an_error_and_the_connection_is_closed),
		RUN(partial_line_may_idle_while_others_are_served),
		RUN(many_requests_in_one_write_are_answered_in_order),
		RUN(client_number_65_is_refused_until_one_leaves),
		RUN(another_user_is_refused_without_a_greeting),
		RUN(socket_is_for_its_owner_only),
		RUN(second_daemon_on_the_same_path_is_refused),
		RUN(stale_socket_is_replaced_but_a_file_is_not),
		RUN(path_too_long_for_a_socket_is_refused),
		RUN(half_closed_client_still_gets_its_answer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
