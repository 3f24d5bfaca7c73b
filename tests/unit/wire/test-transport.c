// SPDX-License-Identifier: GPL-2.0-or-later
/* What every transport promises, checked for io_uring and plain sockets over a unix pair and over
 * TCP in a namespace of our own, and for the fake; with MCD_TEST_RDMA=ADDRESS, of an RDMA device of
 * this host, for RDMA with it instead. */
#include "common/clock.h"
#include "common/rdma/stream.h"
#include "mcd/wire/slab.h"
#include "mcd/wire/stream-io.h"
#include "mcd/wire/transport.h"
#include "tests/fakes/transport-fake.h"
#include "tests/unit/own-netns.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#include <cmocka.h>

#define PATIENCE 60000 /* ms: an emulated host may be slow */

enum kind { URING_UNIX, URING_TCP, PLAIN_UNIX, PLAIN_TCP, RDMA, FAKE };

struct fixture {
	enum kind kind;
	struct transport *a, *b;
	int raw; /* a's end as a bare socket instead of a transport, for hand-made bytes */
	struct rd_stream *raw_rdma; /* the same over RDMA */
};

static uint64_t in_ms(unsigned ms)
{
	return mc_now() + ms * MC_MSEC;
}

static void socket_pair(enum kind kind, int fd[2])
{
	if (kind == URING_UNIX || kind == PLAIN_UNIX) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
		return;
	}
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof sa;
	int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(l, (struct sockaddr *)&sa, sizeof sa), 0);
	assert_int_equal(listen(l, 1), 0);
	assert_int_equal(getsockname(l, (struct sockaddr *)&sa, &n), 0);
	fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd[0], (struct sockaddr *)&sa, sizeof sa), 0);
	fd[1] = accept4(l, NULL, NULL, SOCK_CLOEXEC);
	assert_true(fd[1] >= 0);
	close(l);
}

static struct transport *wrap(enum kind kind, int fd)
{
	struct transport *t;
	struct stream_io *io;
	if (kind == URING_UNIX || kind == URING_TCP) {
		assert_int_equal(tcp_io_uring_new(fd, &io), 0);
	} else {
		assert_int_equal(tcp_io_plain_new(fd, &io), 0);
	}
	assert_int_equal(transport_stream_new(io, &t, NULL), 0);
	return t;
}

struct welcomer { int listening; struct rd_wants wants; struct rd_link got; };

static const struct link_key key = { 32, "an ordinary key of exactly 32 b" };

static void *welcome(void *arg)
{
	struct welcomer *w = arg;
	struct link_peer peer;
	struct mc_error err = MC_ERROR_INIT;
	struct pollfd p = { w->listening, POLLIN, 0 };
	poll(&p, 1, 10000);
	int fd = accept4(w->listening, NULL, NULL, SOCK_CLOEXEC);
	struct link_self self = { "b", &key, 1, NULL };
	if (link_accept(fd, &self, in_ms(5000), &peer, &err) != 0 ||
		rd_welcome(RD_RDMA, &w->wants, fd, &peer, in_ms(5000), &w->got, &err) != 0) {
		fprintf(stderr, "welcome: %s\n", err.msg);
		close(fd);
	}
	return NULL;
}

static void rdma_pair(struct rd_link *a, struct rd_link *b)
{
	const char *address = getenv("MCD_TEST_RDMA");
	struct welcomer w = { .got = { .fd = -1 } };
	struct rd_wants wants;
	struct mc_error err = MC_ERROR_INIT;
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	pthread_t th;
	/* Both ends can receive much: the tests send both ways. */
	transport_rdma_wants(false, 0, &w.wants);
	transport_rdma_wants(false, 0, &wants);
	w.listening = link_listen(address, 0, &err);
	assert_true(w.listening >= 0);
	assert_int_equal(getsockname(w.listening, (struct sockaddr *)&ss, &len), 0);
	uint16_t port = ntohs(((struct sockaddr_in *)&ss)->sin_port); /* at the same place for IPv6 */
	pthread_create(&th, NULL, welcome, &w);
	struct link_self self = { "a", &key, 2, address };
	struct link_target to = { "b", address, port, LINK_DATA, "vm" };
	if (rd_dial(RD_RDMA, &wants, &self, &to, in_ms(5000), a, &err) != 0)
		fail_msg("dial: %s", err.msg);
	pthread_join(th, NULL);
	close(w.listening);
	assert_non_null(a->rdma);
	assert_non_null(w.got.rdma);
	*b = w.got;
}

static void raw_write(struct fixture *f, const void *buf, size_t len)
{
	struct iovec v = { (void *)buf, len };
	if (f->raw_rdma)
		assert_int_equal(rd_stream_send(f->raw_rdma, &v, 1, in_ms(5000)), 0);
	else
		assert_int_equal(write(f->raw, buf, len), (ssize_t)len);
}

static void raw_close(struct fixture *f)
{
	if (f->raw >= 0)
		close(f->raw);
	f->raw = -1;
	if (f->raw_rdma)
		rd_stream_drain(f->raw_rdma, in_ms(1000)); /* a socket would do that by itself */
	rd_stream_close(f->raw_rdma);
	f->raw_rdma = NULL;
}

static void open_pair(struct fixture *f)
{
	int fd[2];
	f->raw = -1;
	f->raw_rdma = NULL;
	if (f->kind == RDMA) {
		struct rd_link a, b;
		rdma_pair(&a, &b);
		assert_int_equal(transport_new(&a, &f->a, NULL), 0);
		assert_int_equal(transport_new(&b, &f->b, NULL), 0);
		return;
	}
	if (f->kind == FAKE) {
		assert_int_equal(transport_fake_pair(NULL, &f->a, &f->b, NULL), 0);
		return;
	}
	socket_pair(f->kind, fd);
	f->a = wrap(f->kind, fd[0]);
	f->b = wrap(f->kind, fd[1]);
}

static void open_raw(struct fixture *f)
{
	int fd[2];
	f->a = NULL;
	f->raw = -1;
	f->raw_rdma = NULL;
	if (f->kind == RDMA) {
		struct rd_link a, b;
		rdma_pair(&a, &b);
		assert_int_equal(rd_stream_new(a.rdma, &f->raw_rdma, NULL), 0);
		assert_int_equal(transport_new(&b, &f->b, NULL), 0);
		return;
	}
	socket_pair(f->kind, fd);
	f->raw = fd[0];
	f->b = wrap(f->kind, fd[1]);
}

static void close_pair(struct fixture *f)
{
	transport_close(f->a);
	transport_close(f->b);
	raw_close(f);
}

static struct wire_header header(uint16_t type, uint64_t epoch, const void *payload, size_t len)
{
	return (struct wire_header){ type, 1, epoch, len, XXH3_64bits(payload, len) };
}

static void post(struct transport *t, uint16_t type, uint64_t epoch, const void *payload, size_t len)
{
	struct wire_header h = header(type, epoch, payload ? payload : "", len);
	struct mc_error err = MC_ERROR_INIT;
	if (transport_post(t, &h, payload, &err) != 0)
		fail_msg("post: %s", err.msg);
}

static void flush(struct transport *t)
{
	struct mc_error err = MC_ERROR_INIT;
	if (transport_flush(t, in_ms(PATIENCE), &err) != 0)
		fail_msg("flush: %s", err.msg);
}

static struct wire_header expect(struct transport *t, uint16_t type)
{
	struct wire_header h = { 0 };
	struct mc_error err = MC_ERROR_INIT;
	if (transport_recv(t, &h, in_ms(PATIENCE), -1, &err) != 0)
		fail_msg("recv: %s", err.msg);
	assert_int_equal(h.type, type);
	return h;
}

static uint8_t *noise(size_t n)
{
	uint8_t *p = malloc(n);
	uint64_t x = 88172645463325252ull;
	for (size_t i = 0; i < n; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		p[i] = (uint8_t)x;
	}
	return p;
}

/* ---- promises of every transport ---- */

struct receiver { struct transport *t; unsigned slabs; const uint8_t *want; };

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
	struct receiver r = { f->b, 12, data };
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
		post(t, i % 3 ? WIRE_SYNC_END : WIRE_COMMIT, i, i % 3 ? NULL : text, i % 3 ? 0 : i % 11);
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
	struct wire_header h = { .type = 99 };
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

struct waker { int fd; uint64_t at; };

static void *wake_later(void *arg)
{
	struct waker *w = arg;
	struct timespec ts = { (time_t)(w->at / MC_SEC), (long)(w->at % MC_SEC) };
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
	eventfd_write(w->fd, 1);
	return NULL;
}

static void wake_fd_ends_a_wait_and_nothing_is_lost(void **state)
{
	struct fixture *f = *state;
	open_pair(f);
	struct waker w = { eventfd(0, EFD_CLOEXEC), in_ms(20) };
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
	struct wire_header h = { .type = WIRE_DEVICES, .length = WIRE_DEVICES_MAX + 1 };
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

/* ---- promises of sockets only ---- */

static void dribbled_bytes_are_put_together(void **state)
{
	struct fixture *f = *state;
	open_raw(f);
	uint8_t msg[WIRE_HEADER_SIZE + 100], buf[100];
	struct wire_header h = header(WIRE_COMMIT, 3, memset(buf, 5, 100), 100), got;
	wire_put_header(msg, &h);
	memcpy(msg + WIRE_HEADER_SIZE, buf, 100);
	for (size_t i = 0; i < WIRE_HEADER_SIZE; i++) {
		assert_int_equal(transport_recv(f->b, &got, in_ms(i % 8 ? 0 : 1), -1, NULL), -ETIMEDOUT);
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
	struct wire_header h = { .type = WIRE_SYNC_OK };
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
	if (f->kind == URING_TCP) {
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

/* ---- the fake's fault plan ---- */

static void fake_plan(const struct transport_fake_plan *plan, struct transport **a,
	struct transport **b)
{
	assert_int_equal(transport_fake_pair(plan, a, b, NULL), 0);
}

static void fake_cuts_after_the_planned_message(void **state)
{
	struct transport *a, *b;
	struct wire_header h = { .type = WIRE_SYNC_OK };
	fake_plan(&(struct transport_fake_plan){ .cut_after = 2 }, &a, &b);
	post(a, WIRE_SYNC_OK, 1, NULL, 0);
	post(b, WIRE_SYNC_OK, 1, NULL, 0); /* b's messages do not count */
	post(a, WIRE_SYNC_OK, 2, NULL, 0);
	assert_int_equal(transport_post(a, &h, NULL, NULL), -ECONNRESET);
	assert_int_equal(transport_post(b, &h, NULL, NULL), -ECONNRESET);
	expect(b, WIRE_SYNC_OK);
	assert_int_equal(expect(b, WIRE_SYNC_OK).epoch, 2);
	assert_int_equal(transport_recv(b, &h, in_ms(1000), -1, NULL), -ENODATA);
	transport_close(a);
	transport_close(b);
}

static void fake_corrupts_the_planned_message(void **state)
{
	struct transport *a, *b;
	char buf[100] = { 0 };
	struct mc_error err = MC_ERROR_INIT;
	fake_plan(&(struct transport_fake_plan){ .corrupt_at = 2 }, &a, &b);
	post(a, WIRE_COMMIT, 1, buf, sizeof buf);
	post(a, WIRE_COMMIT, 2, buf, sizeof buf);
	expect(b, WIRE_COMMIT);
	assert_int_equal(transport_recv_payload(b, buf, in_ms(1000), NULL), 0);
	expect(b, WIRE_COMMIT);
	assert_int_equal(transport_recv_payload(b, buf, in_ms(1000), &err), -EBADMSG);
	transport_close(a);
	transport_close(b);

	struct wire_header h;
	fake_plan(&(struct transport_fake_plan){ .corrupt_at = 1 }, &a, &b);
	post(a, WIRE_SYNC_OK, 1, NULL, 0);
	assert_int_equal(transport_recv(b, &h, in_ms(1000), -1, &err), -EBADMSG);
	transport_close(a);
	transport_close(b);
}

static void fake_truncates_the_planned_message(void **state)
{
	struct transport *a, *b;
	char buf[100] = { 0 };
	struct wire_header h;
	fake_plan(&(struct transport_fake_plan){ .truncate_at = 1 }, &a, &b);
	post(a, WIRE_COMMIT, 1, buf, sizeof buf);
	expect(b, WIRE_COMMIT);
	assert_int_equal(transport_recv_payload(b, buf, in_ms(1000), NULL), -ECONNRESET);
	assert_true(transport_recv(b, &h, in_ms(1000), -1, NULL) < 0);
	transport_close(a);
	transport_close(b);
}

static void fake_delays_every_message(void **state)
{
	struct transport *a, *b;
	struct wire_header h;
	fake_plan(&(struct transport_fake_plan){ .delay_ns = 40 * MC_MSEC }, &a, &b);
	uint64_t before = mc_now();
	post(a, WIRE_SYNC_OK, 1, NULL, 0);
	assert_int_equal(transport_recv(b, &h, before + 10 * MC_MSEC, -1, NULL), -ETIMEDOUT);
	expect(b, WIRE_SYNC_OK);
	assert_true(mc_now() - before >= 40 * MC_MSEC);
	transport_close(a);
	transport_close(b);
}

#define ALL(t) cmocka_unit_test(t)

static int run(enum kind kind, const char *name)
{
	struct fixture f = { .kind = kind, .raw = -1 };
	struct CMUnitTest tests[] = {
		ALL(large_messages_arrive_whole_and_in_order),
		ALL(thousands_of_small_messages_keep_their_order),
		ALL(deadline_ends_a_wait_and_nothing_is_lost),
		ALL(wake_fd_ends_a_wait_and_nothing_is_lost),
		ALL(wake_fd_is_heard_while_messages_keep_coming),
		ALL(end_of_the_peer_is_told_after_its_last_message),
		ALL(message_longer_than_its_type_allows_is_not_posted),
		ALL(wrong_digest_is_refused_and_breaks_the_connection),
	};
	struct CMUnitTest socket_tests[] = {
		ALL(dribbled_bytes_are_put_together),
		ALL(stalled_payload_times_out_and_leaves_the_buffer_alone),
		ALL(late_payload_is_received_by_asking_again),
		ALL(peer_that_dies_in_the_middle_of_a_message_is_a_reset),
		ALL(last_words_of_a_peer_that_closes_are_heard_while_sending),
		ALL(reader_that_stalls_ends_a_flush_at_its_deadline),
		ALL(peer_that_dies_while_we_send_is_told),
		ALL(nonsense_instead_of_a_header_is_a_protocol_error),
		ALL(closing_with_unsent_data_does_not_hang),
		ALL(transport_tcp_new_takes_any_socket_and_sets_nodelay), /* the last: not of RDMA */
	};
	struct CMUnitTest fake_tests[] = {
		ALL(fake_cuts_after_the_planned_message),
		ALL(fake_corrupts_the_planned_message),
		ALL(fake_truncates_the_planned_message),
		ALL(fake_delays_every_message),
	};
	for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
		tests[i].initial_state = &f;
	for (size_t i = 0; i < sizeof socket_tests / sizeof *socket_tests; i++)
		socket_tests[i].initial_state = &f;
	int failed = cmocka_run_group_tests_name(name, tests, NULL, NULL);
	if (kind == FAKE)
		return failed + cmocka_run_group_tests_name(name, fake_tests, NULL, NULL);
	return failed + _cmocka_run_group_tests(name, socket_tests,
				sizeof socket_tests / sizeof *socket_tests - (kind == RDMA), NULL, NULL);
}

static bool have_uring(void)
{
	int fd[2];
	struct stream_io *io;
	socket_pair(URING_UNIX, fd);
	close(fd[1]);
	if (tcp_io_uring_new(fd[0], &io) < 0) {
		close(fd[0]);
		return false;
	}
	io->ops->free(io);
	return true;
}

int main(void)
{
	static const struct { enum kind kind; const char *name; } kinds[] = {
		{ URING_UNIX, "io_uring, unix" }, { URING_TCP, "io_uring, tcp" },
		{ PLAIN_UNIX, "plain, unix" }, { PLAIN_TCP, "plain, tcp" }, { FAKE, "fake" },
	};
	int failed = 0;
	if (getenv("MCD_TEST_RDMA"))
		return run(RDMA, "rdma");
	if (!own_netns()) {
		puts("skipped: no network namespace of our own (needs root or user namespaces)");
		return 77;
	}
	bool uring = have_uring();
	if (!uring)
		puts("io_uring is switched off here: only the other engines are tested");
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (uring || kinds[i].kind > URING_TCP)
			failed += run(kinds[i].kind, kinds[i].name);
	return failed;
}
