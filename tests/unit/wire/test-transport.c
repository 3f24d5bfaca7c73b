/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The transport over sockets, a unix pair and TCP in a namespace of our own; with
 * MCD_TEST_RDMA=ADDRESS, of an RDMA device of this host, over RDMA with it instead. */
#include "common/clock.h"
#include "mcd/wire/slab.h"
#include "tests/unit/own-netns.h"
#include "tests/unit/wire/transport-fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void dribbled_bytes_are_put_together(void **state)
{
	struct fixture *f = *state;
	open_raw(f);
	uint8_t msg[WIRE_HEADER_SIZE + 100], buf[100];
	struct wire_header h = header(WIRE_COMMIT, 3, memset(buf, 5, 100), 100), got;
	wire_put_header(msg, &h);
	memcpy(msg + WIRE_HEADER_SIZE, buf, 100);
	for (size_t i = 0; i < WIRE_HEADER_SIZE; i++) {
		assert_int_equal(
			transport_recv(f->b, &got, in_ms(i % 8 ? 0 : 1), -1, NULL), -ETIMEDOUT);
		raw_write(f, msg + i, 1);
	}
	assert_int_equal(transport_recv(f->b, &got, in_ms(1000), -1, NULL), 0);
	assert_int_equal(got.epoch, 3);
	raw_write(f, msg + WIRE_HEADER_SIZE, 100);
	memset(buf, 0, sizeof buf);
	assert_int_equal(transport_recv_payload(f->b, buf, in_ms(1000), NULL), 0);
	assert_int_equal(buf[99], 5);
	close_pair(f);
}

static void stalled_payload_times_out_and_leaves_the_buffer_alone(void **state)
{
	struct fixture *f = *state;
	open_raw(f);
	uint8_t msg[WIRE_HEADER_SIZE];
	static uint8_t data[100000], buf[100000];
	struct wire_header h = header(WIRE_DEVICES, 1, data, sizeof data);
	struct mc_error err = MC_ERROR_INIT;
	wire_put_header(msg, &h);
	raw_write(f, msg, sizeof msg);
	raw_write(f, data, 1000);
	assert_int_equal(transport_recv(f->b, &h, in_ms(1000), -1, NULL), 0);
	assert_int_equal(transport_recv_payload(f->b, buf, in_ms(30), &err), -ETIMEDOUT);
	assert_string_equal(err.cls, MC_ECLASS_TIMEOUT);
	/* The rest comes now: were the receive still in flight, it would land in our buffer. */
	memset(buf, 0x55, sizeof buf);
	raw_write(f, data, 50000);
	assert_true(transport_recv(f->b, &h, in_ms(20), -1, &err) < 0);
	for (size_t i = 0; i < sizeof buf; i++)
		assert_int_equal(buf[i], 0x55);
	close_pair(f);
}

static void late_payload_is_received_by_asking_again(void **state)
{
	struct fixture *f = *state;
	open_raw(f);
	uint8_t msg[WIRE_HEADER_SIZE];
	static uint8_t data[100000], buf[100000];
	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (uint8_t)(i * 7);
	struct wire_header h = header(WIRE_DEVICES, 1, data, sizeof data);
	struct mc_error err = MC_ERROR_INIT;
	wire_put_header(msg, &h);
	raw_write(f, msg, sizeof msg);
	raw_write(f, data, 1000);
	assert_int_equal(transport_recv(f->b, &h, in_ms(1000), -1, NULL), 0);
	assert_int_equal(transport_recv_payload(f->b, buf, in_ms(20), &err), -ETIMEDOUT);
	raw_write(f, data + 1000, 50000);
	assert_int_equal(transport_recv_payload(f->b, buf, in_ms(20), &err), -ETIMEDOUT);
	raw_write(f, data + 51000, sizeof data - 51000);
	assert_int_equal(transport_recv_payload(f->b, buf, in_ms(1000), &err), 0);
	assert_memory_equal(buf, data, sizeof data);
	close_pair(f);
}

/* Data that it did not read makes TCP reset the connection. */
static void last_words_of_a_peer_that_closes_are_heard_while_sending(void **state)
{
	struct fixture *f = *state;
	struct mc_error why = MC_ERROR_INIT, err = MC_ERROR_INIT;
	struct wire_header h;
	uint8_t buf[512], *big = noise(SLAB_SIZE);
	int r = 0;
	open_pair(f);
	h = header(WIRE_SLAB, 1, big, SLAB_SIZE);
	assert_int_equal(transport_post(f->a, &h, big, NULL), 0);
	expect(f->b, WIRE_SLAB);
	mc_error_set(&why, -ENOMEM, MC_ECLASS_MEMORY, "no room here");
	post(f->b, WIRE_ERROR, 0, buf, wire_put_error(buf, sizeof buf, &why));
	flush(f->b);
	transport_close(f->b);
	f->b = NULL;
	for (int i = 0; i < 20 && r == 0; i++) {
		r = transport_post(f->a, &h, big, &err);
		if (r == 0)
			r = transport_flush(f->a, in_ms(2000), &err);
	}
	assert_int_equal(r, -EREMOTEIO);
	assert_string_equal(err.cls, MC_ECLASS_MEMORY);
	assert_non_null(strstr(err.msg, "no room here"));
	assert_int_equal(transport_post(f->a, &h, big, NULL), -EREMOTEIO);
	free(big);
	close_pair(f);
}

static void peer_that_dies_in_the_middle_of_a_message_is_a_reset(void **state)
{
	struct fixture *f = *state;
	static uint8_t data[100000], buf[100000];
	struct wire_header h = header(WIRE_DEVICES, 1, data, sizeof data);
	uint8_t msg[WIRE_HEADER_SIZE];
	wire_put_header(msg, &h);
	for (int part = 0; part < 2; part++) {
		struct mc_error err = MC_ERROR_INIT;
		open_raw(f);
		raw_write(f, msg, part ? 64 : 63);
		if (part)
			raw_write(f, data, 5000);
		raw_close(f);
		int r = transport_recv(f->b, &h, in_ms(1000), -1, &err);
		if (part) {
			assert_int_equal(r, 0);
			r = transport_recv_payload(f->b, buf, in_ms(1000), &err);
		}
		assert_int_equal(r, -ECONNRESET);
		assert_string_equal(err.cls, MC_ECLASS_UNREACHABLE);
		close_pair(f);
	}
}

static void reader_that_stalls_ends_a_flush_at_its_deadline(void **state)
{
	struct fixture *f = *state;
	open_raw(f);
	uint8_t *data = noise(SLAB_SIZE);
	struct mc_error err = MC_ERROR_INIT;
	for (int i = 0; i < 8; i++)
		post(f->b, WIRE_SLAB, 1, data, SLAB_SIZE);
	uint64_t before = mc_now();
	assert_int_equal(transport_flush(f->b, before + 50 * MC_MSEC, &err), -ETIMEDOUT);
	uint64_t took = mc_now() - before;
	assert_true(took >= 50 * MC_MSEC && took < 2 * MC_SEC);
	assert_string_equal(err.cls, MC_ECLASS_TIMEOUT);
	free(data); /* nothing may point there any more: the sanitizer watches */
	assert_int_equal(transport_flush(f->b, in_ms(10), &err), -ETIMEDOUT);
	struct wire_header h = {.type = WIRE_SYNC_OK};
	assert_int_equal(transport_post(f->b, &h, NULL, &err), -ETIMEDOUT);
	close_pair(f);
}

static void peer_that_dies_while_we_send_is_told(void **state)
{
	struct fixture *f = *state;
	open_raw(f);
	uint8_t *data = noise(SLAB_SIZE);
	struct mc_error err = MC_ERROR_INIT;
	int r = 0;
	raw_close(f);
	struct wire_header h = header(WIRE_SLAB, 1, data, SLAB_SIZE);
	for (int i = 0; i < 8 && r == 0; i++) {
		r = transport_post(f->b, &h, data, &err);
		if (r == 0)
			r = transport_flush(f->b, in_ms(5000), &err);
	}
	assert_int_equal(r, -ECONNRESET);
	assert_string_equal(err.cls, MC_ECLASS_UNREACHABLE);
	free(data);
	close_pair(f);
}

static void nonsense_instead_of_a_header_is_a_protocol_error(void **state)
{
	struct fixture *f = *state;
	open_raw(f);
	struct wire_header h;
	struct mc_error err = MC_ERROR_INIT;
	char http[WIRE_HEADER_SIZE] = "GET / HTTP/1.1\r\n";
	raw_write(f, http, sizeof http);
	assert_int_equal(transport_recv(f->b, &h, in_ms(1000), -1, &err), -EBADMSG);
	assert_string_equal(err.cls, MC_ECLASS_PROTOCOL);
	assert_int_equal(transport_recv(f->b, &h, in_ms(1000), -1, &err), -EBADMSG);
	close_pair(f);
}

static void closing_with_unsent_data_does_not_hang(void **state)
{
	struct fixture *f = *state;
	open_raw(f);
	uint8_t *data = noise(SLAB_SIZE);
	for (int i = 0; i < 4; i++)
		post(f->b, WIRE_SLAB, 1, data, SLAB_SIZE);
	transport_close(f->b);
	f->b = NULL;
	free(data);
	close_pair(f);
}

static void transport_tcp_new_takes_any_socket_and_sets_nodelay(void **state)
{
	struct fixture *f = *state;
	int fd[2], on = 0;
	socklen_t n = sizeof on;
	socket_pair(f->kind, fd);
	f->raw = -1;
	fcntl(fd[0], F_SETFL, O_NONBLOCK);
	assert_int_equal(transport_tcp_new(fd[0], &f->a, NULL), 0);
	assert_int_equal(transport_tcp_new(fd[1], &f->b, NULL), 0);
	if (f->kind == TCP) {
		assert_int_equal(getsockopt(fd[0], IPPROTO_TCP, TCP_NODELAY, &on, &n), 0);
		assert_true(on);
	}
	post(f->b, WIRE_SYNC_OK, 9, NULL, 0);
	flush(f->b);
	struct wire_header h;
	assert_int_equal(transport_recv(f->a, &h, in_ms(1000), -1, NULL), 0);
	close_pair(f);
	struct mc_error err = MC_ERROR_INIT;
	assert_true(transport_tcp_new(-1, &f->a, &err) < 0);
	assert_true(err.code < 0);
}

static int run(enum kind kind, const char *name)
{
	struct fixture f = {.kind = kind, .raw = -1};
	struct CMUnitTest tests[] = {
		cmocka_unit_test(dribbled_bytes_are_put_together),
		cmocka_unit_test(stalled_payload_times_out_and_leaves_the_buffer_alone),
		cmocka_unit_test(late_payload_is_received_by_asking_again),
		cmocka_unit_test(last_words_of_a_peer_that_closes_are_heard_while_sending),
		cmocka_unit_test(peer_that_dies_in_the_middle_of_a_message_is_a_reset),
		cmocka_unit_test(reader_that_stalls_ends_a_flush_at_its_deadline),
		cmocka_unit_test(peer_that_dies_while_we_send_is_told),
		cmocka_unit_test(nonsense_instead_of_a_header_is_a_protocol_error),
		cmocka_unit_test(closing_with_unsent_data_does_not_hang),
		/* the last: not of RDMA */
		cmocka_unit_test(transport_tcp_new_takes_any_socket_and_sets_nodelay),
	};
	size_t n = sizeof tests / sizeof *tests;
	for (size_t i = 0; i < n; i++)
		tests[i].initial_state = &f;
	return run_promises(&f, name) +
	       _cmocka_run_group_tests(name, tests, n - (kind == RDMA), NULL, NULL);
}

int main(void)
{
	if (getenv("MCD_TEST_RDMA"))
		return run(RDMA, "rdma");
	if (!own_netns()) {
		puts("skipped: no network namespace of our own (needs root or user namespaces)");
		return 77;
	}
	return run(UNIX, "unix") + run(TCP, "tcp");
}
