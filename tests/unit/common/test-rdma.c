/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * RDMA connections: their formats, how two ends agree, what a hostile end gets.  Agreeing needs no
 * device: without one it ends with TCP.  What needs one is tested with MCD_TEST_RDMA=ADDRESS, the
 * address of a device of this host.
 */
#include "common/clock.h"
#include "common/rdma/private.h"
#include "common/rdma/stream.h"
#include "tests/unit/own-netns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define LOOPBACK "127.0.0.1"

static const struct link_key key = {32, "an ordinary key of exactly 32 b"};
static const struct link_self host_b = {"b", &key, 1, NULL};

static struct link_self host_a(const char *address)
{
	return (struct link_self){"a", &key, 2, address};
}
static const struct rd_wants stream = {.stream = true, .region = 256u << 10};
static const struct rd_wants words = {.region = RD_REGION_MIN};

static uint64_t in_ms(unsigned ms)
{
	return mc_now() + ms * MC_MSEC;
}

static const char *device_address(void)
{
	return getenv("MCD_TEST_RDMA");
}

/* --- formats --- */

static void another_version_is_told_apart_from_nonsense(void **state)
{
	struct rd_agree a = {.type = RD_OFFER, .caps = RD_CAP_STREAM}, got = {.port = 77};
	struct rd_hello h = {.caps = RD_CAP_STREAM, .slots = RD_SLOTS, .size = 4096}, hgot;
	struct mc_error err = MC_ERROR_INIT;
	uint8_t buf[RD_AGREE_SIZE];
	rd_put_agree(buf, &a);
	buf[5] = 2;
	assert_int_equal(rd_get_agree(buf, RD_OFFER, &got, &err), -EPROTONOSUPPORT);
	assert_string_equal(err.cls, MC_ECLASS_VERSION);
	assert_non_null(strstr(err.msg, "version 2"));
	assert_int_equal(got.port, 77);
	buf[0] ^= 1;
	assert_int_equal(rd_get_agree(buf, RD_OFFER, &got, &err), -EPROTO);
	rd_put_hello(buf, &h);
	buf[5] = 9;
	assert_int_equal(rd_get_hello(buf, RD_HELLO_SIZE, &hgot, &err), -EPROTONOSUPPORT);
}

static void unknown_capabilities_are_dropped(void **state)
{
	struct rd_agree a = {.type = RD_OFFER, .caps = 0xfff1}, got;
	struct rd_hello h = {.caps = 0xfff1, .slots = RD_SLOTS, .size = 4096}, hgot;
	uint8_t buf[RD_AGREE_SIZE];
	rd_put_agree(buf, &a);
	assert_int_equal(rd_get_agree(buf, RD_OFFER, &got, NULL), 0);
	assert_int_equal(got.caps, RD_CAP_STREAM);
	rd_put_hello(buf, &h);
	assert_int_equal(rd_get_hello(buf, RD_HELLO_SIZE, &hgot, NULL), 0);
	assert_int_equal(hgot.caps, RD_CAP_STREAM);
}

static void impossible_regions_and_receives_are_refused(void **state)
{
	static const struct rd_hello bad[] = {
		{.caps = RD_CAP_STREAM, .slots = RD_SLOTS, .size = 0},
		{.caps = RD_CAP_STREAM, .slots = RD_SLOTS, .size = 4095},
		{.caps = RD_CAP_STREAM, .slots = RD_SLOTS, .size = RD_REGION_MAX + 4096ull},
		{.caps = RD_CAP_STREAM, .slots = RD_SLOTS, .size = 8192, .addr = UINT64_MAX - 4096},
		{.caps = RD_CAP_STREAM, .slots = RD_SLOTS_MIN - 1, .size = 4096},
		{.caps = RD_CAP_STREAM, .slots = RD_SLOTS_MAX + 1, .size = 4096},
		{.caps = 0, .slots = RD_SLOTS, .size = 4096},
	};
	struct rd_hello got;
	uint8_t buf[RD_HELLO_SIZE];
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		rd_put_hello(buf, &bad[i]);
		assert_int_equal(rd_get_hello(buf, sizeof buf, &got, NULL), -EPROTO);
	}
	for (size_t len = 0; len < RD_HELLO_SIZE; len++)
		assert_true(rd_get_hello(buf, len, &got, NULL) < 0);
}

/* --- agreeing --- */

struct acceptor {
	pthread_t thread;
	int listening;
	uint16_t port;
	enum rd_mode mode;
	const struct rd_wants *wants;
	struct link_peer peer;
	struct rd_link link;
	struct mc_error err;
	int r;
};

static void *acceptor_thread(void *arg)
{
	struct acceptor *a = arg;
	struct pollfd p = {.fd = a->listening, .events = POLLIN};
	poll(&p, 1, 5000);
	int fd = accept4(a->listening, NULL, NULL, SOCK_CLOEXEC);
	a->r = link_accept(fd, &host_b, in_ms(5000), &a->peer, &a->err);
	if (a->r == 0)
		a->r = rd_welcome(a->mode, a->wants, fd, &a->peer, in_ms(5000), &a->link, &a->err);
	if (a->r < 0)
		close(fd);
	return NULL;
}

static void acceptor_start(
	struct acceptor *a, const char *address, enum rd_mode mode, const struct rd_wants *wants)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	*a = (struct acceptor){.mode = mode, .wants = wants, .link.fd = -1, .err = MC_ERROR_INIT};
	a->listening = link_listen(address, 0, NULL);
	assert_true(a->listening >= 0);
	getsockname(a->listening, (struct sockaddr *)&ss, &len);
	a->port = ntohs(((struct sockaddr_in *)&ss)->sin_port); /* at the same place for IPv6 */
	pthread_create(&a->thread, NULL, acceptor_thread, a);
}

static void acceptor_join(struct acceptor *a)
{
	pthread_join(a->thread, NULL);
	close(a->listening);
}

static int dial(const char *address, struct acceptor *a, enum rd_mode mode,
	const struct rd_wants *wants, struct rd_link *ret, struct mc_error *err)
{
	struct link_self self = host_a(address);
	struct link_target to = {"b", address, a->port, LINK_DATA, "vm1"};
	return rd_dial(mode, wants, &self, &to, in_ms(5000), ret, err);
}

static int raw_dial(struct acceptor *a, unsigned purpose, const char *subject, struct mc_error *err)
{
	struct link_self self = host_a(LOOPBACK);
	struct link_target to = {"b", LOOPBACK, a->port, purpose, subject};
	return link_connect(&self, &to, in_ms(5000), NULL, err);
}

static void expect_tcp(int a, int b)
{
	char c = 0;
	assert_int_equal(link_write(a, "x", 1, in_ms(1000)), 0);
	assert_int_equal(link_read(b, &c, 1, in_ms(1000), -1), 0);
	assert_int_equal(c, 'x');
}

static void auto_without_a_device_is_tcp_and_says_why(void **state)
{
	struct acceptor a;
	struct rd_link link;
	struct mc_error err = MC_ERROR_INIT;
	acceptor_start(&a, LOOPBACK, RD_AUTO, &stream);
	assert_int_equal(dial(LOOPBACK, &a, RD_AUTO, &stream, &link, &err), 0);
	acceptor_join(&a);
	assert_int_equal(a.r, 0);
	assert_null(link.rdma);
	assert_null(a.link.rdma);
	assert_true(link.why[0] && a.link.why[0]);
	expect_tcp(link.fd, a.link.fd);
	rd_link_close(&link);
	rd_link_close(&a.link);
}

static void rdma_without_a_device_is_an_error(void **state)
{
	struct acceptor a;
	struct rd_link link;
	struct mc_error err = MC_ERROR_INIT;
	acceptor_start(&a, LOOPBACK, RD_RDMA, &stream);
	assert_true(dial(LOOPBACK, &a, RD_RDMA, &stream, &link, &err) < 0);
	assert_non_null(strstr(err.msg, "transport = rdma"));
	assert_int_equal(dial(LOOPBACK, &a, RD_TCP, &stream, &link, NULL), 0);
	acceptor_join(&a);
	assert_true(a.r < 0);
	assert_non_null(strstr(a.err.msg, "does not offer RDMA"));
	assert_string_equal(link.why, "");
	rd_link_close(&link);
}

/* What a dialer with a device gets from an acceptor without one, and one of another version. */
static void an_offer_is_answered_with_the_reason_and_tcp_goes_on(void **state)
{
	for (int version = 1; version <= 2; version++) {
		struct acceptor a;
		struct rd_agree offer = {.type = RD_OFFER, .caps = RD_CAP_STREAM}, answer;
		struct mc_error err = MC_ERROR_INIT;
		uint8_t buf[RD_AGREE_SIZE];
		acceptor_start(&a, LOOPBACK, RD_AUTO, &stream);
		int fd = raw_dial(&a, LINK_DATA | LINK_OFFERS_RDMA, "vm1", &err);
		assert_true(fd >= 0);
		rd_put_agree(buf, &offer);
		buf[5] = (uint8_t)version;
		assert_int_equal(link_write(fd, buf, sizeof buf, in_ms(1000)), 0);
		assert_int_equal(link_read(fd, buf, sizeof buf, in_ms(3000), -1), 0);
		assert_int_equal(rd_get_agree(buf, RD_ANSWER, &answer, &err), 0);
		assert_true(answer.no && answer.reason[0]);
		if (version == 2)
			assert_non_null(strstr(answer.reason, "version 2"));
		acceptor_join(&a);
		assert_true(a.peer.offers_rdma);
		assert_int_equal(a.r, 0);
		assert_string_not_equal(a.link.why, "");
		expect_tcp(fd, a.link.fd);
		close(fd);
		rd_link_close(&a.link);
	}
}

static void nonsense_instead_of_an_offer_ends_the_connection(void **state)
{
	struct acceptor a;
	uint8_t buf[RD_AGREE_SIZE] = "GET / HTTP/1.1";
	acceptor_start(&a, LOOPBACK, RD_AUTO, &stream);
	int fd = raw_dial(&a, LINK_DATA | LINK_OFFERS_RDMA, "vm1", NULL);
	assert_int_equal(link_write(fd, buf, sizeof buf, in_ms(1000)), 0);
	acceptor_join(&a);
	assert_int_equal(a.r, -EPROTO);
	assert_string_equal(a.err.cls, MC_ECLASS_PROTOCOL);
	close(fd);
}

/* Votes never go by RDMA, so such an offer is as strange as any would be to an mcd that knows none.
 */
static void a_peer_that_knows_no_rdma_says_so(void **state)
{
	struct acceptor a;
	struct mc_error err = MC_ERROR_INIT;
	acceptor_start(&a, LOOPBACK, RD_AUTO, &stream);
	assert_int_equal(raw_dial(&a, LINK_VOTE | LINK_OFFERS_RDMA, "", &err), -EOPNOTSUPP);
	assert_string_equal(err.cls, MC_ECLASS_VERSION);
	acceptor_join(&a);
	assert_true(a.r < 0);
}

/* --- with a device --- */

static void connect_both(const struct rd_wants *w, struct rd_conn **ret_a, struct rd_conn **ret_b)
{
	struct acceptor a;
	struct rd_link link;
	struct mc_error err = MC_ERROR_INIT;
	acceptor_start(&a, device_address(), RD_RDMA, w);
	if (dial(device_address(), &a, RD_RDMA, w, &link, &err) < 0)
		fail_msg("%s", err.msg);
	acceptor_join(&a);
	assert_int_equal(a.r, 0);
	*ret_a = link.rdma;
	*ret_b = a.link.rdma;
}

static void a_device_is_found_by_its_address(void **state)
{
	struct rd_device dev = {.port = 99};
	struct mc_error err = MC_ERROR_INIT;
	assert_int_equal(rd_probe(device_address(), &dev, &err), 0);
	assert_true(dev.name[0] && dev.port >= 1 && dev.port < 99 && dev.mtu >= 256);
	assert_true(rd_probe(LOOPBACK, &dev, &err) < 0);
	assert_non_null(strstr(err.msg, "rdma link add"));
	assert_true(rd_probe("10.255.255.254", &dev, &err) < 0);
	assert_non_null(strstr(err.msg, "no interface here"));
}

static void auto_takes_rdma_where_both_have_it(void **state)
{
	for (int mode = RD_AUTO; mode <= RD_RDMA; mode++) {
		struct acceptor a;
		struct rd_link link;
		acceptor_start(&a, device_address(), (enum rd_mode)mode, &stream);
		assert_int_equal(dial(device_address(), &a, RD_AUTO, &stream, &link, NULL), 0);
		acceptor_join(&a);
		assert_int_equal(a.r, 0);
		assert_true(!link.rdma == (mode == RD_TCP) && !a.link.rdma == (mode == RD_TCP));
		if (mode == RD_TCP) {
			assert_non_null(strstr(link.why, "transport = tcp there"));
			expect_tcp(link.fd, a.link.fd);
		}
		rd_link_close(&link);
		rd_link_close(&a.link);
	}
}

/* The place that a yes names does not answer. */
static void a_connection_that_cannot_be_made_goes_on_as_tcp(void **state)
{
	for (int auto_mode = 0; auto_mode < 2; auto_mode++) {
		struct rd_link link;
		struct mc_error err = MC_ERROR_INIT;
		struct link_peer peer;
		struct sockaddr_in sa;
		socklen_t len = sizeof sa;
		int l = link_listen(device_address(), 0, NULL);
		getsockname(l, (struct sockaddr *)&sa, &len);
		pid_t pid = fork();
		if (pid == 0) {
			struct rd_agree yes = {.type = RD_ANSWER, .caps = RD_CAP_STREAM, .port = 9},
					said;
			uint8_t buf[RD_AGREE_SIZE], c;
			yes.address.s6_addr[10] = yes.address.s6_addr[11] = 0xff;
			memcpy(yes.address.s6_addr + 12, &sa.sin_addr, 4);
			struct pollfd p = {.fd = l, .events = POLLIN};
			poll(&p, 1, 5000);
			int fd = accept(l, NULL, NULL);
			bool ok = link_accept(fd, &host_b, in_ms(5000), &peer, NULL) == 0 &&
				  link_read(fd, buf, sizeof buf, in_ms(5000), -1) == 0 &&
				  rd_get_agree(buf, RD_OFFER, &said, NULL) == 0;
			rd_put_agree(buf, &yes);
			ok = ok && link_write(fd, buf, sizeof buf, in_ms(5000)) == 0 &&
			     link_read(fd, buf, sizeof buf, in_ms(9000), -1) == 0 &&
			     rd_get_agree(buf, RD_VERDICT, &said, NULL) == 0 && said.no &&
			     said.reason[0];
			if (ok && auto_mode)
				ok = link_read(fd, &c, 1, in_ms(5000), -1) == 0 && c == 'x';
			_exit(!ok);
		}
		struct link_self self = host_a(device_address());
		struct link_target to = {
			"b", device_address(), ntohs(sa.sin_port), LINK_DATA, "vm1"};
		int r = rd_dial(auto_mode ? RD_AUTO : RD_RDMA, &stream, &self, &to, in_ms(5000),
			&link, &err);
		assert_int_equal(r, auto_mode ? 0 : err.code);
		if (auto_mode) {
			assert_non_null(strstr(link.why, "RDMA"));
			link_write(link.fd, "x", 1, in_ms(1000));
			rd_link_close(&link);
		}
		int status;
		waitpid(pid, &status, 0);
		assert_int_equal(status, 0);
		close(l);
	}
}

/* A request with private data of our own making; returns what the event says. */
static int forge(
	const struct sockaddr *to, const uint8_t *data, uint8_t len, char reason[RD_REASON_SIZE])
{
	struct rdma_event_channel *ch = rdma_create_event_channel();
	struct rdma_cm_id *id;
	struct rdma_cm_event *ev;
	struct ibv_qp_init_attr attr = {.qp_type = IBV_QPT_RC, .cap = {4, 4, 1, 1, 0}};
	struct rdma_conn_param param = {
		.private_data = data, .private_data_len = len, .retry_count = 6};
	assert_int_equal(rdma_create_id(ch, &id, NULL, RDMA_PS_TCP), 0);
	assert_int_equal(rdma_resolve_addr(id, NULL, (struct sockaddr *)to, 2000), 0);
	assert_int_equal(rdma_get_cm_event(ch, &ev), 0);
	rdma_ack_cm_event(ev);
	assert_int_equal(rdma_resolve_route(id, 2000), 0);
	assert_int_equal(rdma_get_cm_event(ch, &ev), 0);
	rdma_ack_cm_event(ev);
	struct ibv_cq *cq = ibv_create_cq(id->verbs, 8, NULL, NULL, 0);
	struct ibv_pd *pd = ibv_alloc_pd(id->verbs);
	attr.send_cq = attr.recv_cq = cq;
	assert_int_equal(rdma_create_qp(id, pd, &attr), 0);
	assert_int_equal(rdma_connect(id, &param), 0);
	assert_int_equal(rdma_get_cm_event(ch, &ev), 0);
	int event = ev->event;
	rd_get_reject(ev->param.conn.private_data, ev->param.conn.private_data_len, reason);
	rdma_ack_cm_event(ev);
	rdma_destroy_qp(id);
	ibv_destroy_cq(cq);
	ibv_dealloc_pd(pd);
	rdma_destroy_id(id);
	rdma_destroy_event_channel(ch);
	return event;
}

struct expecting {
	struct rd_conn *c;
	int r;
	struct mc_error err;
};

static int nothing_said(void *ctx, struct mc_error *err)
{
	return 0;
}

static void *expect_thread(void *arg)
{
	struct expecting *e = arg;
	struct rd_cm_watch w = {-1, nothing_said, NULL};
	e->r = rd_cm_accept(e->c, &w, in_ms(10000), &e->err);
	return NULL;
}

static void only_the_right_token_and_version_come_in(void **state)
{
	struct sockaddr_storage at;
	struct expecting e = {.err = MC_ERROR_INIT};
	struct mc_error err = MC_ERROR_INIT;
	struct rd_conn *c;
	struct rd_hello h = {
		.caps = RD_CAP_STREAM, .slots = RD_SLOTS, .size = 4096, .token = "wrong"};
	struct rd_cm_watch w = {-1, nothing_said, NULL};
	uint8_t buf[RD_HELLO_SIZE];
	char reason[RD_REASON_SIZE];
	uint16_t port;
	pthread_t th;
	assert_int_equal(rd_address(device_address(), 0, &at, NULL), 0);
	assert_int_equal(rd_cm_new((struct sockaddr *)&at, &stream, &e.c, NULL), 0);
	memcpy(e.c->token, "right", 6);
	assert_int_equal(rd_cm_listen(e.c, &port, NULL), 0);
	pthread_create(&th, NULL, expect_thread, &e);

	assert_int_equal(rd_address(device_address(), port, &at, NULL), 0);
	rd_put_hello(buf, &h);
	assert_int_equal(
		forge((struct sockaddr *)&at, buf, sizeof buf, reason), RDMA_CM_EVENT_REJECTED);
	assert_non_null(strstr(reason, "token"));
	memcpy(h.token, "right", 6);
	rd_put_hello(buf, &h);
	buf[5] = 7;
	assert_int_equal(
		forge((struct sockaddr *)&at, buf, sizeof buf, reason), RDMA_CM_EVENT_REJECTED);
	assert_non_null(strstr(reason, "version 7"));
	assert_int_equal(forge((struct sockaddr *)&at, buf, 0, reason), RDMA_CM_EVENT_REJECTED);

	/* And then the right one. */
	struct sockaddr_storage here;
	assert_int_equal(rd_address(device_address(), 0, &here, NULL), 0);
	assert_int_equal(rd_cm_new((struct sockaddr *)&here, &stream, &c, NULL), 0);
	memcpy(c->token, "right", 6);
	if (rd_cm_connect(c, (struct sockaddr *)&at, &w, in_ms(5000), &err) < 0)
		fail_msg("%s", err.msg);
	pthread_join(th, NULL);
	assert_int_equal(e.r, 0);
	rd_close(c);
	rd_close(e.c);
}

static void connecting_to_nobody_ends_at_its_deadline(void **state)
{
	struct sockaddr_storage here, there;
	struct mc_error err = MC_ERROR_INIT;
	struct rd_cm_watch w = {-1, nothing_said, NULL};
	struct rd_conn *c;
	char text[64];
	/* The same network, and nobody there. */
	snprintf(text, sizeof text, "%s", device_address());
	strcpy(strrchr(text, '.'), ".233");
	assert_int_equal(rd_address(device_address(), 0, &here, NULL), 0);
	assert_int_equal(rd_address(text, 9, &there, NULL), 0);
	assert_int_equal(rd_cm_new((struct sockaddr *)&here, &stream, &c, NULL), 0);
	uint64_t began = mc_now();
	assert_true(rd_cm_connect(c, (struct sockaddr *)&there, &w, in_ms(700), &err) < 0);
	assert_true(mc_now() - began < 4 * MC_SEC);
	rd_close(c);
}

/* Sends those bytes as the peer's next message. */
static void send_raw(struct rd_conn *c, const void *bytes, size_t len)
{
	memcpy(c->fixed, bytes, len); /* a receive slot of ours, that nobody will need */
	struct ibv_sge sge = {(uintptr_t)c->fixed, (uint32_t)len, c->fixed_mr->lkey};
	struct ibv_send_wr wr = {.sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_SEND}, *bad;
	assert_int_equal(ibv_post_send(c->id->qp, &wr, &bad), 0);
}

static void hostile_messages_break_the_connection(void **state)
{
	static const struct {
		const char *what;
		struct rd_control m;
		size_t follows;
	} cases[] = {
		{"more than the ring holds",
			{.length = (256u << 10) + 1,
				.type = RD_PLACED,
				.repeat = 3,
				.posted = RD_SLOTS},
			0},
		{"4 GiB",
			{.length = UINT32_MAX, .type = RD_PLACED, .repeat = 3, .posted = RD_SLOTS},
			0},
		{"nothing, placed",
			{.length = 0, .type = RD_PLACED, .repeat = 1, .posted = RD_SLOTS}, 0},
		{"placed by no write", {.length = 5, .type = RD_PLACED, .posted = RD_SLOTS}, 0},
		{"inline bytes that are missing",
			{.length = 5, .type = RD_INLINE, .posted = RD_SLOTS}, 4},
		{"inline bytes too many", {.length = 5, .type = RD_INLINE, .posted = RD_SLOTS}, 6},
		{"credit with bytes", {.type = RD_CREDIT, .posted = RD_SLOTS}, 1},
		{"unknown type", {.type = 4, .posted = RD_SLOTS}, 0},
		{"freed what was not written", {.type = RD_CREDIT, .freed = 1, .posted = RD_SLOTS},
			0},
		{"receives out of nowhere", {.type = RD_CREDIT, .posted = 2 * RD_SLOTS + 1}, 0},
		{"receives taken back", {.type = RD_CREDIT, .posted = RD_SLOTS - 1}, 0},
	};
	for (size_t i = 0; i <= sizeof cases / sizeof *cases; i++) {
		struct rd_conn *a, *b;
		struct rd_stream *s;
		struct mc_error err = MC_ERROR_INIT;
		uint8_t bytes[64] = {0}, got[64];
		connect_both(&stream, &a, &b);
		assert_int_equal(rd_stream_new(b, &s, NULL), 0);
		if (i < sizeof cases / sizeof *cases) {
			rd_put_control(bytes, &cases[i].m);
			send_raw(a, bytes, RD_CONTROL_SIZE + cases[i].follows);
		} else {
			send_raw(a, bytes, 3); /* less than a header */
		}
		int r = (int)rd_stream_recv(s, got, sizeof got, false, in_ms(5000), -1);
		if (r != -EPROTO)
			print_error("%s\n",
				i < sizeof cases / sizeof *cases ? cases[i].what : "3 bytes");
		assert_int_equal(r, -EPROTO);
		assert_int_equal(rd_stream_why(s, &err), -EPROTO);
		assert_string_equal(err.cls, MC_ECLASS_PROTOCOL);
		rd_stream_close(s);
		rd_close(a);
	}
}

static void words_are_put_into_the_peers_region(void **state)
{
	struct rd_conn *a, *b;
	struct mc_error err = MC_ERROR_INIT;
	size_t size;
	connect_both(&words, &a, &b);
	volatile uint8_t *region = rd_region(b, &size);
	assert_int_equal(size, RD_REGION_MIN);
	assert_int_equal(rd_put(a, 4090, "1234567", 7, &err), -ERANGE);
	for (unsigned i = 1; i <= 50; i++) {
		uint64_t until = in_ms(5000);
		int r;
		while ((r = rd_put(a, 16, &i, sizeof i, &err)) == -EAGAIN && mc_now() < until)
			usleep(500);
		assert_int_equal(r, 0);
	}
	uint64_t until = in_ms(5000);
	while (*(volatile unsigned *)(region + 16) != 50 && mc_now() < until)
		usleep(500);
	assert_int_equal(*(volatile unsigned *)(region + 16), 50);
	assert_int_equal(rd_check(a, &err), 0);
	assert_int_equal(rd_check(b, &err), 0);
	rd_close(a);
	int r = 0, fds[RD_FDS];
	for (until = in_ms(5000); !r && mc_now() < until;) {
		struct pollfd p[RD_FDS];
		size_t n = rd_poll_fds(b, fds);
		for (size_t i = 0; i < n; i++)
			p[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
		poll(p, n, 1000);
		r = rd_check(b, &err);
	}
	assert_int_equal(r, -ENODATA);
	rd_close(b);
}

/* Its kernel lives: the socket beside the connection tells at once. */
static void a_killed_peer_is_noticed_while_nothing_is_sent(void **state)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	struct rd_link link;
	struct rd_stream *s;
	struct link_peer peer;
	struct mc_error err = MC_ERROR_INIT;
	int l = link_listen(device_address(), 0, NULL);
	getsockname(l, (struct sockaddr *)&ss, &len);
	pid_t pid = fork();
	if (pid == 0) {
		struct rd_link mine;
		struct pollfd p = {.fd = l, .events = POLLIN};
		poll(&p, 1, 5000);
		int fd = accept4(l, NULL, NULL, SOCK_CLOEXEC);
		if (link_accept(fd, &host_b, in_ms(5000), &peer, NULL) == 0)
			rd_welcome(RD_RDMA, &stream, fd, &peer, in_ms(5000), &mine, NULL);
		for (;;)
			pause();
	}
	struct link_self self = host_a(device_address());
	struct link_target to = {"b", device_address(),
		ntohs(((struct sockaddr_in *)&ss)->sin_port), LINK_DATA, "vm1"};
	int r = rd_dial(RD_RDMA, &stream, &self, &to, in_ms(5000), &link, &err);
	if (r < 0)
		print_error("%s\n", err.msg);
	assert_int_equal(r, 0);
	assert_int_equal(rd_stream_new(link.rdma, &s, NULL), 0);
	char c;
	assert_int_equal(rd_stream_recv(s, &c, 1, true, in_ms(300), -1), -ETIMEDOUT);
	kill(pid, SIGKILL);
	uint64_t began = mc_now();
	ssize_t got = rd_stream_recv(s, &c, 1, true, in_ms(8000), -1);
	assert_true(got == -ENODATA || got == -ECONNRESET);
	print_message("noticed after %.0f ms\n", (double)(mc_now() - began) / 1e6);
	assert_true(mc_now() - began < 2 * MC_SEC);
	waitpid(pid, NULL, 0);
	rd_stream_close(s);
	close(l);
}

/* As another user, in a process of its own. */
static int with_little_memlock(void)
{
	struct rlimit l = {256u << 10, 256u << 10};
	struct acceptor a;
	struct rd_link link;
	struct mc_error err = MC_ERROR_INIT;
	if (setrlimit(RLIMIT_MEMLOCK, &l) < 0 || setgid(65534) < 0 || setuid(65534) < 0)
		return 2;
	if (rd_memlock_check(16u << 20, &err) != -ENOMEM || !strstr(err.msg, "16384 KiB") ||
		!strstr(err.msg, "256 KiB") || !strstr(err.msg, "LimitMEMLOCK"))
		return 3;
	acceptor_start(&a, device_address(), RD_AUTO, &stream);
	if (dial(device_address(), &a, RD_RDMA, &stream, &link, &err) != -ENOMEM ||
		!strstr(err.msg, "LimitMEMLOCK"))
		return 4;
	if (dial(device_address(), &a, RD_AUTO, &stream, &link, &err) != 0 || link.rdma ||
		!strstr(link.why, "LimitMEMLOCK"))
		return 5;
	acceptor_join(&a);
	return 0;
}

static void too_little_memlock_is_said_before_anything_else(void **state)
{
	int status;
	pid_t pid = fork();
	if (pid == 0)
		_exit(with_little_memlock());
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
}

/* Two threads, both ways at once, through rings that are smaller than what is sent. */
struct pump {
	struct rd_stream *s;
	uint8_t *data;
	size_t len;
	bool declared;
	int r;
};

static void *send_all(void *arg)
{
	struct pump *p = arg;
	size_t step = 1;
	if (p->declared)
		rd_stream_memory(p->s, p->data, p->len, false, NULL);
	for (size_t at = 0; at < p->len && p->r == 0; at += step, step = step * 3 % 700001 + 1) {
		if (step > p->len - at)
			step = p->len - at;
		struct iovec v[2] = {
			{p->data + at, step / 2}, {p->data + at + step / 2, step - step / 2}};
		p->r = rd_stream_send(p->s, v, 2, in_ms(30000));
	}
	if (p->r == 0)
		p->r = rd_stream_drain(p->s, in_ms(30000));
	return NULL;
}

static void *receive_all(void *arg)
{
	struct pump *p = arg;
	for (size_t at = 0; at < p->len && p->r == 0;) {
		ssize_t n =
			rd_stream_recv(p->s, p->data + at, p->len - at, false, in_ms(30000), -1);
		if (n < 0)
			p->r = (int)n;
		else
			at += (size_t)n;
	}
	return NULL;
}

static uint8_t *pages(size_t len, unsigned seed)
{
	uint8_t *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)((i * 2654435761u + seed) >> 13);
	return p;
}

static void both_directions_at_once_by_two_threads_each(void **state)
{
	enum { LEN = 6 << 20 };
	struct rd_conn *ca, *cb;
	struct rd_stream *a, *b;
	pthread_t th[4];
	connect_both(&stream, &ca, &cb);
	assert_int_equal(rd_stream_new(ca, &a, NULL), 0);
	assert_int_equal(rd_stream_new(cb, &b, NULL), 0);
	struct pump p[4] = {
		{a, pages(LEN, 1), LEN, true, 0},
		{b, pages(LEN, 2), LEN, false, 0},
		{a, pages(LEN, 3), LEN, false, 0},
		{b, pages(LEN, 4), LEN, false, 0},
	};
	for (int i = 0; i < 4; i++)
		pthread_create(&th[i], NULL, i < 2 ? send_all : receive_all, &p[i]);
	for (int i = 0; i < 4; i++)
		pthread_join(th[i], NULL);
	for (int i = 0; i < 4; i++)
		assert_int_equal(p[i].r, 0);
	assert_memory_equal(p[0].data, p[3].data, LEN);
	assert_memory_equal(p[1].data, p[2].data, LEN);
	rd_stream_forget(a, p[0].data);
	for (int i = 0; i < 4; i++)
		munmap(p[i].data, LEN);
	rd_stream_close(a);
	rd_stream_close(b);
}

int main(void)
{
	const struct CMUnitTest anywhere[] = {
		cmocka_unit_test(another_version_is_told_apart_from_nonsense),
		cmocka_unit_test(unknown_capabilities_are_dropped),
		cmocka_unit_test(impossible_regions_and_receives_are_refused),
		cmocka_unit_test(auto_without_a_device_is_tcp_and_says_why),
		cmocka_unit_test(rdma_without_a_device_is_an_error),
		cmocka_unit_test(an_offer_is_answered_with_the_reason_and_tcp_goes_on),
		cmocka_unit_test(nonsense_instead_of_an_offer_ends_the_connection),
		cmocka_unit_test(a_peer_that_knows_no_rdma_says_so),
	};
	const struct CMUnitTest with_device[] = {
		cmocka_unit_test(a_device_is_found_by_its_address),
		cmocka_unit_test(auto_takes_rdma_where_both_have_it),
		cmocka_unit_test(a_connection_that_cannot_be_made_goes_on_as_tcp),
		cmocka_unit_test(only_the_right_token_and_version_come_in),
		cmocka_unit_test(connecting_to_nobody_ends_at_its_deadline),
		cmocka_unit_test(hostile_messages_break_the_connection),
		cmocka_unit_test(words_are_put_into_the_peers_region),
		cmocka_unit_test(a_killed_peer_is_noticed_while_nothing_is_sent),
		cmocka_unit_test(too_little_memlock_is_said_before_anything_else),
		cmocka_unit_test(both_directions_at_once_by_two_threads_each),
	};
	signal(SIGPIPE, SIG_IGN);
	if (device_address())
		return cmocka_run_group_tests_name("rdma", with_device, NULL, NULL);
	if (!own_netns()) {
		puts("skipped: no network namespace of our own (needs root or user namespaces)");
		return 77;
	}
	return cmocka_run_group_tests_name("rdma without a device", anywhere, NULL, NULL);
}
