/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/wire/transport-fixture.h"

#include "common/clock.h"
#include "common/rdma/stream.h"
#include "tests/fakes/transport-fake.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xxhash.h>

uint64_t in_ms(unsigned ms)
{
	return mc_now() + ms * MC_MSEC;
}

void socket_pair(enum kind kind, int fd[2])
{
	if (kind == UNIX) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
		return;
	}
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
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

static struct transport *wrap(int fd)
{
	struct transport *t;
	assert_int_equal(transport_tcp_new(fd, &t, NULL), 0);
	return t;
}

struct welcomer {
	int listening;
	struct rd_wants wants;
	struct rd_link got;
};

static const struct link_key key = {32, "an ordinary key of exactly 32 b"};

static void *welcome(void *arg)
{
	struct welcomer *w = arg;
	struct link_peer peer;
	struct mc_error err = MC_ERROR_INIT;
	struct pollfd p = {w->listening, POLLIN, 0};
	poll(&p, 1, 10000);
	int fd = accept4(w->listening, NULL, NULL, SOCK_CLOEXEC);
	struct link_self self = {"b", &key, 1, NULL};
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
	struct welcomer w = {.got = {.fd = -1}};
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
	/* at the same place for IPv6 */
	uint16_t port = ntohs(((struct sockaddr_in *)&ss)->sin_port);
	pthread_create(&th, NULL, welcome, &w);
	struct link_self self = {"a", &key, 2, address};
	struct link_target to = {"b", address, port, LINK_DATA, "vm"};
	if (rd_dial(RD_RDMA, &wants, &self, &to, in_ms(5000), a, &err) != 0)
		fail_msg("dial: %s", err.msg);
	pthread_join(th, NULL);
	close(w.listening);
	assert_non_null(a->rdma);
	assert_non_null(w.got.rdma);
	*b = w.got;
}

void raw_write(struct fixture *f, const void *buf, size_t len)
{
	struct iovec v = {(void *)buf, len};
	if (f->raw_rdma)
		assert_int_equal(rd_stream_send(f->raw_rdma, &v, 1, in_ms(5000)), 0);
	else
		assert_int_equal(write(f->raw, buf, len), (ssize_t)len);
}

void raw_close(struct fixture *f)
{
	if (f->raw >= 0)
		close(f->raw);
	f->raw = -1;
	if (f->raw_rdma)
		rd_stream_drain(f->raw_rdma, in_ms(1000)); /* a socket would do that by itself */
	rd_stream_close(f->raw_rdma);
	f->raw_rdma = NULL;
}

void open_pair(struct fixture *f)
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
	f->a = wrap(fd[0]);
	f->b = wrap(fd[1]);
}

void open_raw(struct fixture *f)
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
	f->b = wrap(fd[1]);
}

void close_pair(struct fixture *f)
{
	transport_close(f->a);
	transport_close(f->b);
	raw_close(f);
}

struct wire_header header(uint16_t type, uint64_t epoch, const void *payload, size_t len)
{
	return (struct wire_header){type, 1, epoch, len, XXH3_64bits(payload, len)};
}

void post(struct transport *t, uint16_t type, uint64_t epoch, const void *payload, size_t len)
{
	struct wire_header h = header(type, epoch, payload ? payload : "", len);
	struct mc_error err = MC_ERROR_INIT;
	if (transport_post(t, &h, payload, &err) != 0)
		fail_msg("post: %s", err.msg);
}

void flush(struct transport *t)
{
	struct mc_error err = MC_ERROR_INIT;
	if (transport_flush(t, in_ms(PATIENCE), &err) != 0)
		fail_msg("flush: %s", err.msg);
}

struct wire_header expect(struct transport *t, uint16_t type)
{
	struct wire_header h = {0};
	struct mc_error err = MC_ERROR_INIT;
	if (transport_recv(t, &h, in_ms(PATIENCE), -1, &err) != 0)
		fail_msg("recv: %s", err.msg);
	assert_int_equal(h.type, type);
	return h;
}

uint8_t *noise(size_t n)
{
	uint8_t *p = malloc(n);
	uint64_t x = 88172645463325252ull;
	for (size_t i = 0; i < n; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		p[i] = (uint8_t)x;
	}
	return p;
}
