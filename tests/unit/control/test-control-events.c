/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The control socket and what arrives from other threads: answers, progress, events. */
#include "control-harness.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#define SUBSCRIBE "{\"id\":\"s\",\"execute\":\"events\"}"

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

/* A full turn of the loop: everything emitted before has been handed to the subscribers. */
static void turn(int fd)
{
	json_t *answer = client_ask(fd, "{\"execute\":\"echo\",\"arguments\":{\"text\":\"\"}}");
	assert_non_null(answer);
	json_decref(answer);
}

static void *work(void *arg)
{
	struct control_request *req = arg;
	control_progress(req, json_pack("{s:i}", "percent", 10));
	control_progress(req, json_pack("{s:i}", "percent", 90));
	control_answer(req, json_pack("{s:b}", "done", 1));
	return NULL;
}

static void progress_and_answer_of_another_thread_arrive_in_order(void **state)
{
	int fd = client_connect(*state);
	client_say(fd, "{\"id\":5,\"execute\":\"hold\"}");
	pthread_t thread;
	pthread_create(&thread, NULL, work, harness_held(*state));
	pthread_join(thread, NULL);
	static const int percent[] = {10, 90};
	for (size_t i = 0; i < 2; i++) {
		json_t *line = client_read(fd);
		assert_int_equal(json_integer_value(json_object_get(line, "id")), 5);
		json_t *value = json_object_get(json_object_get(line, "progress"), "percent");
		assert_int_equal(json_integer_value(value), percent[i]);
		json_decref(line);
	}
	json_t *answer = client_read(fd);
	assert_true(json_is_true(json_object_get(json_object_get(answer, "return"), "done")));
	json_decref(answer);
	close(fd);
}

static void slow_request_does_not_hold_up_a_later_one(void **state)
{
	int fd = client_connect(*state);
	client_say(fd, "{\"id\":1,\"execute\":\"hold\"}");
	struct control_request *req = harness_held(*state);
	turn(fd);
	control_answer(req, NULL);
	json_t *answer = client_read(fd);
	assert_int_equal(json_integer_value(json_object_get(answer, "id")), 1);
	json_decref(answer);
	close(fd);
}

static void answer_to_a_client_that_left_is_dropped(void **state)
{
	int gone = client_connect(*state), other = client_connect(*state);
	client_say(gone, "{\"execute\":\"hold\"}");
	struct control_request *req = harness_held(*state);
	close(gone);
	turn(other);
	/* Takes the place of the one who left: it must not get the other's answer. */
	int heir = client_connect(*state);
	control_progress(req, json_object());
	control_answer(req, json_pack("{s:s}", "secret", "s"));
	turn(heir);
	turn(other);
	close(heir);
	close(other);
}

static void answer_after_the_control_socket_is_gone_is_dropped(void **state)
{
	struct harness *h = harness_start();
	int fd = client_connect(h);
	client_say(fd, "{\"execute\":\"hold\"}");
	struct control_request *req = harness_held(h);
	harness_stop(h);
	control_progress(req, json_object());
	control_answer(req, NULL);
	assert_null(client_read(fd));
	close(fd);
}

static void requests_beyond_the_bound_wait_for_a_free_place(void **state)
{
	int fd = client_connect(*state);
	for (int i = 0; i < 40; i++)
		client_say(fd, "{\"execute\":\"hold\"}");
	struct control_request *held[40];
	for (size_t i = 0; i < 32; i++)
		held[i] = harness_held(*state);
	int other = client_connect(*state);
	turn(other);
	for (size_t i = 0; i < 32; i++)
		control_answer(held[i], NULL);
	for (size_t i = 32; i < 40; i++) {
		held[i] = harness_held(*state);
		assert_non_null(held[i]);
		control_answer(held[i], NULL);
	}
	for (int i = 0; i < 40; i++) {
		json_t *answer = client_read(fd);
		assert_non_null(answer);
		json_decref(answer);
	}
	close(fd);
	close(other);
}

static void subscribers_get_events_and_others_do_not(void **state)
{
	int sub = client_connect(*state), other = client_connect(*state);
	json_t *answer = client_ask(sub, SUBSCRIBE);
	assert_int_equal(
		json_integer_value(json_object_get(json_object_get(answer, "return"), "history")),
		0);
	json_decref(answer);
	control_emit(harness_control(*state), "ALARM", json_pack("{s:s}", "vm", "vm1"));
	json_t *event = client_read(sub);
	assert_string_equal(json_string_value(json_object_get(event, "event")), "ALARM");
	assert_true(json_integer_value(json_object_get(event, "time")) > 0);
	const char *date = json_string_value(json_object_get(event, "realtime"));
	assert_int_equal(strlen(date), strlen("2026-01-02T03:04:05.678Z"));
	json_t *data = json_object_get(event, "data");
	assert_string_equal(json_string_value(json_object_get(data, "vm")), "vm1");
	json_decref(event);
	turn(other);
	turn(sub); /* a subscriber may still ask */
	close(sub);
	close(other);
}

static long number_of(const json_t *event)
{
	return (long)json_integer_value(json_object_get(json_object_get(event, "data"), "n"));
}

static void history_replays_the_last_1024_events_in_order(void **state)
{
	int fd = client_connect(*state);
	for (int i = 0; i < 1500; i++)
		control_emit(harness_control(*state), "E", json_pack("{s:i}", "n", i));
	turn(fd);
	json_t *answer =
		client_ask(fd, "{\"execute\":\"events\",\"arguments\":{\"history\":true}}");
	assert_int_equal(
		json_integer_value(json_object_get(json_object_get(answer, "return"), "history")),
		1024);
	json_decref(answer);
	control_emit(harness_control(*state), "E", json_pack("{s:i}", "n", 1500));
	for (int i = 1500 - 1024; i <= 1500; i++) {
		json_t *event = client_read(fd);
		assert_int_equal(number_of(event), i);
		json_decref(event);
	}
	close(fd);
}

static void subscriber_that_does_not_read_is_dropped(void **state)
{
	int sub = client_connect(*state), other = client_connect(*state);
	json_decref(client_ask(sub, SUBSCRIBE));
	char filler[1000];
	memset(filler, 'x', sizeof filler);
	/* The kernel's buffer, our backlog, and then some. */
	for (int i = 0; i < 4000; i++) {
		control_emit(harness_control(*state), "E",
			json_pack("{s:i, s:s%}", "n", i, "filler", filler, sizeof filler));
		if (i % 500 == 0)
			turn(other);
	}
	turn(other);
	json_t *event;
	int n = 0;
	while ((event = client_read(sub))) {
		assert_int_equal(number_of(event), n++);
		json_decref(event);
	}
	assert_in_range(n, 1, 3000);
	turn(other);
	close(sub);
	close(other);
}

static void large_answer_reaches_a_client_that_reads(void **state)
{
	int fd = client_connect(*state);
	json_t *answer = client_ask(fd, "{\"execute\":\"big\",\"arguments\":{\"bytes\":3000000}}");
	json_t *data = json_object_get(json_object_get(answer, "return"), "data");
	assert_int_equal(json_string_length(data), 3000000);
	json_decref(answer);
	close(fd);
}

static void half_closed_subscriber_keeps_getting_events(void **state)
{
	int fd = client_connect(*state), other = client_connect(*state);
	json_decref(client_ask(fd, SUBSCRIBE));
	shutdown(fd, SHUT_WR);
	turn(other);
	control_emit(harness_control(*state), "E", NULL);
	json_t *event = client_read(fd);
	assert_non_null(event);
	json_decref(event);
	close(fd);
	close(other);
}

#define RUN(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RUN(progress_and_answer_of_another_thread_arrive_in_order),
		RUN(slow_request_does_not_hold_up_a_later_one),
		RUN(answer_to_a_client_that_left_is_dropped),
		cmocka_unit_test(answer_after_the_control_socket_is_gone_is_dropped),
		RUN(requests_beyond_the_bound_wait_for_a_free_place),
		RUN(subscribers_get_events_and_others_do_not),
		RUN(history_replays_the_last_1024_events_in_order),
		RUN(subscriber_that_does_not_read_is_dropped),
		RUN(large_answer_reaches_a_client_that_reads),
		RUN(half_closed_subscriber_keeps_getting_events),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
