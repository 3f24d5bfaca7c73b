/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What every transport promises. */
#include "tests/unit/wire/transport-fixture.h"

#include "common/clock.h"
#include "mcd/wire/slab.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct receiver {
	struct transport *t;
	unsigned slabs;
	const uint8_t *want;
};

static void *receive_slabs(void *arg)
{
	struct receiver *r = arg;
	uint8_t *buf = malloc(SLAB_SIZE);
	for (unsigned i = 0; i < r->slabs; i++) {
		struct wire_header h = expect(r->t, WIRE_SLAB);
		assert_int_equal(h.epoch, i);
		memset(buf, 0, SLAB_SIZE);
		assert_int_equal(transport_recv_payload(r->t, buf, in_ms(PATIENCE), NULL), 0);
		assert_memory_equal(buf, r->want, h.length);
		post(r->t, WIRE_ACK, i, NULL, 0);
		flush(r->t);
	}
	free(buf);
	return NULL;
}

static void large_messages_arrive_whole_and_in_order(void **state)
{
	struct fixture *f = *state;
	open_pair(f);
	uint8_t *data = noise(SLAB_SIZE);
	struct receiver r = {f->b, 12, data};
	pthread_t th;
	pthread_create(&th, NULL, receive_slabs, &r);
	for (unsigned i = 0; i < r.slabs; i++)
		post(f->a, WIRE_SLAB, i, data, SLAB_SIZE - i * 77777);
	flush(f->a);
	for (unsigned i = 0; i < r.slabs; i++)
		assert_int_equal(expect(f->a, WIRE_ACK).epoch, i);
	pthread_join(th, NULL);
	struct transport_stats sa, sb;
	transport_get_stats(f->a, &sa);
	transport_get_stats(f->b, &sb);
	assert_int_equal(sa.sent_messages, 12);
	assert_int_equal(sb.received_messages, 12);
	assert_int_equal(sa.sent_bytes, sb.received_bytes);
	assert_int_equal(sa.received_bytes, 12 * WIRE_HEADER_SIZE);
	free(data);
	close_pair(f);
}

static void *send_small(void *arg)
{
	struct transport *t = arg;
	static const char text[] = "0123456789";
	for (unsigned i = 0; i < 5000; i++)
		post(t, i % 3 ? WIRE_SYNC_END : WIRE_COMMIT, i, i % 3 ? NULL : text,
			i % 3 ? 0 : i % 11);
	flush(t);
	return NULL;
}

static void thousands_of_small_messages_keep_their_order(void **state)
{
	struct fixture *f = *state;
	open_pair(f);
	pthread_t th;
	pthread_create(&th, NULL, send_small, f->a);
	for (unsigned i = 0; i < 5000; i++) {
		char buf[16];
		struct wire_header h = expect(f->b, i % 3 ? WIRE_SYNC_END : WIRE_COMMIT);
		assert_int_equal(h.epoch, i);
		assert_int_equal(h.length, i % 3 ? 0 : i % 11);
		assert_int_equal(transport_recv_payload(f->b, buf, in_ms(1000), NULL), 0);
		assert_memory_equal(buf, "0123456789", h.length);
	}
	pthread_join(th, NULL);
	close_pair(f);
}

static void deadline_ends_a_wait_and_nothing_is_lost(void **state)
{
	struct fixture *f = *state;
	open_pair(f);
	struct wire_header h = {.type = 99};
	struct mc_error err = MC_ERROR_INIT;
	uint64_t before = mc_now();
	assert_int_equal(transport_recv(f->b, &h, before + 30 * MC_MSEC, -1, &err), -ETIMEDOUT);
	uint64_t took = mc_now() - before;
	assert_true(took >= 30 * MC_MSEC && took < 1000 * MC_MSEC);
	assert_string_equal(err.cls, MC_ECLASS_TIMEOUT);
	assert_int_equal(h.type, 99);
	assert_int_equal(transport_recv(f->b, &h, 0, -1, &err), -ETIMEDOUT);
	post(f->a, WIRE_SYNC_OK, 5, NULL, 0);
	flush(f->a);
	assert_int_equal(expect(f->b, WIRE_SYNC_OK).epoch, 5);
	close_pair(f);
}

struct waker {
	int fd;
	uint64_t at;
};

static void *wake_later(void *arg)
{
	struct waker *w = arg;
	struct timespec ts = {(time_t)(w->at / MC_SEC), (long)(w->at % MC_SEC)};
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
	eventfd_write(w->fd, 1);
	return NULL;
}

static void wake_fd_ends_a_wait_and_nothing_is_lost(void **state)
{
	struct fixture *f = *state;
	open_pair(f);
	struct waker w = {eventfd(0, EFD_CLOEXEC), in_ms(20)};
	struct wire_header h;
	struct mc_error err = MC_ERROR_INIT;
	pthread_t th;
	pthread_create(&th, NULL, wake_later, &w);
	uint64_t before = mc_now();
	assert_int_equal(transport_recv(f->b, &h, in_ms(PATIENCE), w.fd, &err), -EINTR);
	assert_true(mc_now() - before < 5 * MC_SEC);
	pthread_join(th, NULL);
	post(f->a, WIRE_SYNC_OK, 5, NULL, 0);
	flush(f->a);
	assert_int_equal(expect(f->b, WIRE_SYNC_OK).epoch, 5);
	close(w.fd);
	close_pair(f);
}

static void wake_fd_is_heard_while_messages_keep_coming(void **state)
{
	struct fixture *f = *state;
	open_pair(f);
	int wake = eventfd(1, EFD_CLOEXEC);
	unsigned got = 0, woken = 0;
	for (unsigned i = 0; i < 100; i++)
		post(f->a, WIRE_SYNC_OK, i, NULL, 0);
	flush(f->a);
	for (unsigned i = 0; i < 100 && !woken; i++) {
		struct wire_header h;
		int r = transport_recv(f->b, &h, in_ms(1000), wake, NULL);
		assert_true(r == 0 || r == -EINTR);
		if (r == 0)
			assert_int_equal(h.epoch, got++);
		else
			woken++;
	}
	assert_int_equal(woken, 1);
	while (got < 100)
		assert_int_equal(expect(f->b, WIRE_SYNC_OK).epoch, got++);
	close(wake);
	close_pair(f);
}

static void end_of_the_peer_is_told_after_its_last_message(void **state)
{
	struct fixture *f = *state;
	open_pair(f);
	struct wire_header h;
	struct mc_error err = MC_ERROR_INIT;
	post(f->a, WIRE_DISCARD, 1, NULL, 0);
	flush(f->a);
	transport_close(f->a);
	f->a = NULL;
	expect(f->b, WIRE_DISCARD);
	assert_int_equal(transport_recv(f->b, &h, in_ms(5000), -1, &err), -ENODATA);
	assert_string_equal(err.cls, MC_ECLASS_UNREACHABLE);
	assert_non_null(strstr(err.msg, "closed"));
	close_pair(f);
}

static void message_longer_than_its_type_allows_is_not_posted(void **state)
{
	struct fixture *f = *state;
	open_pair(f);
	struct wire_header h = {.type = WIRE_DEVICES, .length = WIRE_DEVICES_MAX + 1};
	struct mc_error err = MC_ERROR_INIT;
	assert_int_equal(transport_post(f->a, &h, "", &err), -EMSGSIZE);
	post(f->a, WIRE_SYNC_OK, 1, NULL, 0);
	flush(f->a);
	expect(f->b, WIRE_SYNC_OK);
	close_pair(f);
}

static void wrong_digest_is_refused_and_breaks_the_connection(void **state)
{
	struct fixture *f = *state;
	open_pair(f);
	static uint8_t data[10000], buf[10000];
	struct wire_header h = header(WIRE_DEVICES, 1, data, sizeof data);
	struct mc_error err = MC_ERROR_INIT;
	h.digest ^= 1;
	assert_int_equal(transport_post(f->a, &h, data, NULL), 0);
	post(f->a, WIRE_SYNC_OK, 1, NULL, 0);
	flush(f->a);
	expect(f->b, WIRE_DEVICES);
	assert_int_equal(transport_recv_payload(f->b, buf, in_ms(1000), &err), -EBADMSG);
	assert_string_equal(err.cls, MC_ECLASS_PROTOCOL);
	assert_true(transport_recv(f->b, &h, in_ms(1000), -1, &err) < 0);
	assert_true(transport_post(f->b, &h, data, &err) < 0);
	close_pair(f);
}

int run_promises(struct fixture *f, const char *name)
{
	struct CMUnitTest tests[] = {
		cmocka_unit_test(large_messages_arrive_whole_and_in_order),
		cmocka_unit_test(thousands_of_small_messages_keep_their_order),
		cmocka_unit_test(deadline_ends_a_wait_and_nothing_is_lost),
		cmocka_unit_test(wake_fd_ends_a_wait_and_nothing_is_lost),
		cmocka_unit_test(wake_fd_is_heard_while_messages_keep_coming),
		cmocka_unit_test(end_of_the_peer_is_told_after_its_last_message),
		cmocka_unit_test(message_longer_than_its_type_allows_is_not_posted),
		cmocka_unit_test(wrong_digest_is_refused_and_breaks_the_connection),
	};
	for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
		tests[i].initial_state = f;
	return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}
