/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The handshake between two mcds.  The raw_* helpers speak it from the layout in link.c's head, so
 * they also check that the description is right. */
#include "common/be.h"
#include "common/clock.h"
#include "common/link.h"
#include "tests/unit/own-netns.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define ADDR  "127.0.0.1"
#define HELLO 256
#define PROOF 48
#define ALL   (HELLO + PROOF)

static const struct link_key right = {32, "this is the right key, 32 bytes."};
static const struct link_key wrong = {32, "this is the wrong key, 32 bytes."};

static uint64_t in_ms(unsigned ms)
{
	return mc_now() + ms * MC_MSEC;
}

/* link_accept in a thread, on a socketpair's end or on the next connection of a listener. */
struct acceptor {
	pthread_t thread;
	int fd, listener, r;
	struct link_key key;
	unsigned ms;
	struct link_peer peer;
	struct mc_error err;
	uint64_t took;
};

static void *accept_thread(void *arg)
{
	struct acceptor *a = arg;
	if (a->listener >= 0) {
		fcntl(a->listener, F_SETFL, 0);
		a->fd = accept(a->listener, NULL, NULL);
	}
	uint64_t t = mc_now();
	struct link_self self = {"hostA", &a->key, 77, NULL};
	a->r = link_accept(a->fd, &self, in_ms(a->ms), &a->peer, &a->err);
	a->took = mc_now() - t;
	close(a->fd);
	return NULL;
}

static int connect_as(const struct link_self *self, uint16_t port, const char *name, unsigned ms,
	struct link_peer *ret, struct mc_error *err)
{
	struct link_target to = {name, ADDR, port, LINK_VOTE, NULL};
	return link_connect(self, &to, in_ms(ms), ret, err);
}

static const struct link_self host_b = {"hostB", &right, 1, NULL};

static void acceptor_start(
	struct acceptor *a, int fd, int listener, const struct link_key *key, unsigned ms)
{
	*a = (struct acceptor){.fd = fd, .listener = listener, .key = *key, .ms = ms};
	assert_int_equal(pthread_create(&a->thread, NULL, accept_thread, a), 0);
}

static int acceptor_join(struct acceptor *a)
{
	pthread_join(a->thread, NULL);
	return a->r;
}

static int acceptor_pair(struct acceptor *a, const struct link_key *key, unsigned ms)
{
	int sv[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	acceptor_start(a, sv[1], -1, key, ms);
	return sv[0];
}

static int listener(uint16_t *ret_port)
{
	struct mc_error err = MC_ERROR_INIT;
	int fd = link_listen(ADDR, 0, &err);
	assert_true(fd >= 0);
	struct sockaddr_in sin;
	socklen_t len = sizeof sin;
	getsockname(fd, (struct sockaddr *)&sin, &len);
	*ret_port = ntohs(sin.sin_port);
	return fd;
}

static void raw_prefix(uint8_t *p, unsigned type)
{
	memset(p, 0, 16);
	memcpy(p, "mcd-link", 8);
	put_be16(p + 8, 1);
	p[10] = (uint8_t)type;
}

static void raw_hello(uint8_t p[HELLO], int role)
{
	memset(p, 0, HELLO);
	raw_prefix(p, 1);
	p[16] = (uint8_t)role;
	p[17] = LINK_DATA;
	put_be64(p + 24, 4711);
	for (int i = 0; i < 32; i++)
		p[32 + i] = (uint8_t)rand();
	strcpy((char *)p + 64, role == 1 ? "hostB" : "hostA");
	if (role == 1) {
		strcpy((char *)p + 128, "vm1");
		strcpy((char *)p + 192, "hostA");
	}
}

static void raw_mac(uint8_t msg[PROOF], const char *label, const struct link_key *key,
	const uint8_t *c, const uint8_t *a)
{
	uint8_t text[32 + 2 * HELLO + 16] = {0};
	strcpy((char *)text, label);
	memcpy(text + 32, c, HELLO);
	memcpy(text + 32 + HELLO, a, HELLO);
	memcpy(text + 32 + 2 * HELLO, msg, 16);
	gnutls_hmac_fast(GNUTLS_MAC_SHA256, key->bytes, key->len, text, sizeof text, msg + 16);
}

/* A connector that sends `cut` bytes of a right handshake, byte `at` of it changed by `flip`. */
static int raw_connect(const struct link_key *key, size_t cut, size_t at, uint8_t flip, char *cls)
{
	struct acceptor a;
	int fd = acceptor_pair(&a, key, 2000);
	uint8_t hello[HELLO], sent[HELLO], theirs[HELLO], proof[PROOF];
	raw_hello(hello, 1);
	memcpy(sent, hello, HELLO);
	if (at < HELLO)
		sent[at] ^= flip;
	assert_int_equal(link_write(fd, sent, cut < HELLO ? cut : HELLO, in_ms(1000)), 0);
	if (cut > HELLO && link_read(fd, theirs, 16, in_ms(1000), -1) == 0 && theirs[10] == 1) {
		assert_int_equal(link_read(fd, theirs + 16, HELLO - 16, in_ms(1000), -1), 0);
		raw_prefix(proof, 2);
		raw_mac(proof, "mcd-link connector", key, hello, theirs);
		if (at >= HELLO && at < ALL)
			proof[at - HELLO] ^= flip;
		link_write(fd, proof, cut - HELLO, in_ms(1000));
	}
	shutdown(fd, SHUT_WR);
	int r = acceptor_join(&a);
	close(fd);
	if (cls)
		strcpy(cls, r < 0 ? a.err.cls : "");
	return r;
}

static void test_both_sides_learn_who_the_other_is(void **state)
{
	uint16_t port;
	int l = listener(&port);
	struct acceptor a;
	acceptor_start(&a, -1, l, &right, 2000);
	struct link_peer peer;
	struct mc_error err = MC_ERROR_INIT;
	struct link_self self = {"hostB", &right, 4711, "127.0.0.1"};
	struct link_target to = {"hostA", ADDR, port, LINK_DATA, "vm1"};
	int fd = link_connect(&self, &to, in_ms(2000), &peer, &err);
	assert_string_equal(err.msg, "");
	assert_true(fd >= 0);
	assert_int_equal(acceptor_join(&a), 0);
	assert_string_equal(peer.name, "hostA");
	assert_string_equal(peer.subject, "vm1");
	assert_int_equal(peer.purpose, LINK_DATA);
	assert_int_equal(peer.instance, 77);
	assert_string_equal(a.peer.name, "hostB");
	assert_string_equal(a.peer.subject, "vm1");
	assert_int_equal(a.peer.purpose, LINK_DATA);
	assert_int_equal(a.peer.instance, 4711);
	int one = 0;
	socklen_t len = sizeof one;
	getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, &len);
	assert_true(one);
	assert_false(fcntl(fd, F_GETFL) & O_NONBLOCK);
	close(fd);
	close(l);
}

static void test_a_wrong_key_is_told_to_both_sides(void **state)
{
	uint16_t port;
	int l = listener(&port);
	struct acceptor a;
	acceptor_start(&a, -1, l, &right, 2000);
	struct link_peer peer;
	struct mc_error err = MC_ERROR_INIT;
	struct link_self self = {"hostB", &wrong, 1, NULL};
	int fd = connect_as(&self, port, "hostA", 2000, &peer, &err);
	assert_int_equal(fd, -EKEYREJECTED);
	assert_string_equal(err.cls, MC_ECLASS_WRONG_KEY);
	assert_int_equal(acceptor_join(&a), -EKEYREJECTED);
	assert_string_equal(a.err.cls, MC_ECLASS_WRONG_KEY);
	close(l);
}

static void test_a_wrong_name_is_told_to_both_sides(void **state)
{
	uint16_t port;
	int l = listener(&port);
	struct acceptor a;
	acceptor_start(&a, -1, l, &right, 2000);
	struct link_peer peer;
	struct mc_error err = MC_ERROR_INIT;
	int fd = connect_as(&host_b, port, "hostC", 2000, &peer, &err);
	assert_int_equal(fd, -EHOSTUNREACH);
	assert_string_equal(err.cls, MC_ECLASS_UNREACHABLE);
	assert_non_null(strstr(err.msg, "hostA"));
	assert_non_null(strstr(err.msg, "hostC"));
	assert_int_equal(acceptor_join(&a), -EHOSTUNREACH);
	assert_non_null(strstr(a.err.msg, "hostA"));
	assert_non_null(strstr(a.err.msg, "hostC"));
	close(l);
}

static void test_an_acceptor_refuses_another_version_and_says_its_own(void **state)
{
	struct acceptor a;
	int fd = acceptor_pair(&a, &right, 2000);
	uint8_t hello[HELLO], answer[16];
	raw_hello(hello, 1);
	put_be16(hello + 8, 29);
	assert_int_equal(link_write(fd, hello, sizeof hello, in_ms(1000)), 0);
	assert_int_equal(link_read(fd, answer, 16, in_ms(1000), -1), 0);
	shutdown(fd, SHUT_WR);
	assert_int_equal(get_be16(answer + 8), 1);
	assert_int_equal(answer[10], 4);
	assert_int_equal(answer[11], 1);
	assert_int_equal(acceptor_join(&a), -EPROTONOSUPPORT);
	assert_string_equal(a.err.cls, MC_ECLASS_VERSION);
	assert_non_null(strstr(a.err.msg, "version 29"));
	assert_non_null(strstr(a.err.msg, "version 1"));
	close(fd);
}

/* A server that answers the connector's HELLO with these bytes, then these. */
struct server {
	pthread_t thread;
	int listener;
	enum { SEND_FIXED, ECHO, ECHO_AS_WELCOME, RIGHT } how;
	uint8_t bytes[HELLO];
	size_t cut;
};

static void *server_thread(void *arg)
{
	struct server *s = arg;
	uint8_t hello[HELLO], mine[HELLO], proof[PROOF], welcome[PROOF];
	int fd = accept(s->listener, NULL, NULL);
	link_read(fd, hello, HELLO, in_ms(2000), -1);
	memcpy(mine, s->how == SEND_FIXED ? s->bytes : hello, HELLO);
	if (s->how == RIGHT)
		raw_hello(mine, 2), mine[17] = hello[17];
	link_write(fd, mine, s->cut < HELLO ? s->cut : HELLO, in_ms(2000));
	if (s->cut > HELLO && link_read(fd, proof, PROOF, in_ms(2000), -1) == 0) {
		memcpy(welcome, proof, PROOF);
		if (s->how == ECHO_AS_WELCOME)
			welcome[10] = 3;
		if (s->how == RIGHT) {
			raw_prefix(welcome, 3);
			raw_mac(welcome, "mcd-link acceptor", &right, hello, mine);
		}
		link_write(fd, welcome, s->cut - HELLO, in_ms(2000));
	}
	shutdown(fd, SHUT_WR);
	link_read(fd, hello, HELLO, in_ms(2000), -1);
	close(fd);
	return NULL;
}

static int connect_to(struct server *s, struct mc_error *err)
{
	uint16_t port;
	s->listener = listener(&port);
	fcntl(s->listener, F_SETFL, 0);
	pthread_create(&s->thread, NULL, server_thread, s);
	struct link_peer peer;
	struct link_self self = {"hostB", &right, 4711, NULL};
	struct link_target to = {"hostA", ADDR, port, LINK_DATA, "vm1"};
	int fd = link_connect(&self, &to, in_ms(2000), &peer, err);
	if (fd >= 0)
		close(fd);
	pthread_join(s->thread, NULL);
	close(s->listener);
	return fd < 0 ? fd : 0;
}

static void test_a_connector_names_both_versions(void **state)
{
	struct server s = {.how = SEND_FIXED, .cut = 16};
	raw_prefix(s.bytes, 4);
	put_be16(s.bytes + 8, 29);
	s.bytes[11] = 1;
	struct mc_error err = MC_ERROR_INIT;
	assert_int_equal(connect_to(&s, &err), -EPROTONOSUPPORT);
	assert_string_equal(err.cls, MC_ECLASS_VERSION);
	assert_non_null(strstr(err.msg, "version 29"));
	assert_non_null(strstr(err.msg, "version 1"));
}

static void test_a_proof_cannot_be_reflected(void **state)
{
	struct server s = {.how = ECHO_AS_WELCOME, .cut = ALL};
	struct mc_error err = MC_ERROR_INIT;
	assert_int_equal(connect_to(&s, &err), -EKEYREJECTED);
	s = (struct server){.how = ECHO, .cut = ALL};
	assert_int_equal(connect_to(&s, &err), -EPROTO);
}

static void test_a_connector_survives_truncation_at_every_byte(void **state)
{
	for (size_t cut = 0; cut < ALL; cut++) {
		struct server s = {.how = RIGHT, .cut = cut};
		struct mc_error err = MC_ERROR_INIT;
		assert_true(connect_to(&s, &err) < 0);
		assert_string_equal(err.cls, MC_ECLASS_UNREACHABLE);
	}
	struct server s = {.how = RIGHT, .cut = ALL};
	struct mc_error err = MC_ERROR_INIT;
	assert_int_equal(connect_to(&s, &err), 0);
}

static void test_an_acceptor_survives_truncation_at_every_byte(void **state)
{
	for (size_t cut = 0; cut < ALL; cut++) {
		char cls[32];
		assert_true(raw_connect(&right, cut, SIZE_MAX, 0, cls) < 0);
		assert_string_equal(cls, MC_ECLASS_UNREACHABLE);
	}
	assert_int_equal(raw_connect(&right, ALL, SIZE_MAX, 0, NULL), 0);
}

static void test_any_changed_bit_ends_the_handshake(void **state)
{
	for (size_t at = 0; at < ALL; at++)
		assert_true(raw_connect(&right, ALL, at, (uint8_t)(1 << (at % 8)), NULL) < 0);
}

static void test_garbage_is_a_protocol_error(void **state)
{
	for (int i = 0; i < 100; i++) {
		struct acceptor a;
		int fd = acceptor_pair(&a, &right, 2000);
		uint8_t junk[ALL];
		for (size_t j = 0; j < sizeof junk; j++)
			junk[j] = (uint8_t)rand();
		if (i % 2)
			raw_prefix(junk, 2 + (unsigned)i % 7);
		link_write(fd, junk, sizeof junk, in_ms(1000));
		shutdown(fd, SHUT_WR);
		assert_int_equal(acceptor_join(&a), -EPROTO);
		assert_string_equal(a.err.cls, MC_ECLASS_PROTOCOL);
		close(fd);
	}
}

/* Fields of the HELLO are looked at only after the proof: without the key even a malformed one is
 * a wrong key, with it a clear error. */
static void test_nothing_is_parsed_before_the_proof(void **state)
{
	static const struct {
		size_t at;
		uint8_t value;
	} bad[] = {
		{12, 1},
		{16, 2},
		{17, 0},
		{17, 9},
		{17, LINK_VOTE},
		{18, 1},
		{64, 0},
		{66, '/'},
		{127, 'x'},
		{128, 0},
		{191, 'x'},
		{255, 'x'},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		for (int with_key = 0; with_key < 2; with_key++) {
			struct acceptor a;
			int fd = acceptor_pair(&a, &right, 2000);
			uint8_t hello[HELLO], theirs[HELLO], proof[PROOF], answer[16];
			raw_hello(hello, 1);
			hello[bad[i].at] = bad[i].value;
			link_write(fd, hello, HELLO, in_ms(1000));
			assert_int_equal(link_read(fd, theirs, HELLO, in_ms(1000), -1), 0);
			raw_prefix(proof, 2);
			raw_mac(proof, "mcd-link connector", with_key ? &right : &wrong, hello,
				theirs);
			link_write(fd, proof, PROOF, in_ms(1000));
			shutdown(fd, SHUT_WR);
			assert_int_equal(link_read(fd, answer, 16, in_ms(1000), -1), 0);
			assert_int_equal(acceptor_join(&a), with_key ? -EPROTO : -EKEYREJECTED);
			assert_int_equal(answer[10], with_key ? 3 : 4);
			assert_int_equal(answer[11], with_key ? 4 : 2);
			close(fd);
		}
}

static void test_a_recorded_handshake_cannot_be_replayed(void **state)
{
	uint8_t hello[HELLO], theirs[HELLO], proof[PROOF];
	for (int i = 0; i < 2; i++) {
		struct acceptor a;
		int fd = acceptor_pair(&a, &right, 2000);
		if (i == 0)
			raw_hello(hello, 1);
		link_write(fd, hello, HELLO, in_ms(1000));
		assert_int_equal(link_read(fd, theirs, HELLO, in_ms(1000), -1), 0);
		if (i == 0) {
			raw_prefix(proof, 2);
			raw_mac(proof, "mcd-link connector", &right, hello, theirs);
		}
		link_write(fd, proof, PROOF, in_ms(1000));
		shutdown(fd, SHUT_WR);
		assert_int_equal(acceptor_join(&a), i == 0 ? 0 : -EKEYREJECTED);
		close(fd);
	}
}

static void test_a_slow_peer_cannot_stretch_the_deadline(void **state)
{
	for (int dribble = 0; dribble < 2; dribble++) {
		struct acceptor a;
		int fd = acceptor_pair(&a, &right, 200);
		uint8_t hello[HELLO];
		raw_hello(hello, 1);
		for (int i = 0; dribble && i < 60; i++) {
			link_write(fd, hello + i, 1, in_ms(100));
			usleep(5000);
		}
		assert_int_equal(acceptor_join(&a), -ETIMEDOUT);
		assert_string_equal(a.err.cls, MC_ECLASS_TIMEOUT);
		assert_true(a.took >= 190 * MC_MSEC && a.took < 1000 * MC_MSEC);
		close(fd);
	}
	/* The same for the connector: a listener that never accepts. */
	uint16_t port;
	int l = listener(&port);
	struct link_peer peer;
	struct mc_error err = MC_ERROR_INIT;
	uint64_t t = mc_now();
	assert_int_equal(connect_as(&host_b, port, "hostA", 150, &peer, &err), -ETIMEDOUT);
	assert_true(mc_now() - t < 3 * MC_SEC);
	close(l);
}

static void test_connect_fails_with_the_address_and_the_cure(void **state)
{
	uint16_t port;
	close(listener(&port));
	struct link_peer peer;
	struct mc_error err = MC_ERROR_INIT;
	assert_int_equal(connect_as(&host_b, port, "hostA", 500, &peer, &err), -ECONNREFUSED);
	assert_string_equal(err.cls, MC_ECLASS_UNREACHABLE);
	assert_non_null(strstr(err.msg, ADDR));
	struct link_target by_name = {"hostA", "localhost", port, LINK_VOTE, NULL};
	assert_int_equal(link_connect(&host_b, &by_name, in_ms(500), &peer, &err), -EINVAL);
	struct link_self spaced = {"host B", &right, 1, NULL};
	assert_int_equal(connect_as(&spaced, port, "hostA", 500, &peer, &err), -EINVAL);
}

static void test_reading_tells_the_ends_of_a_stream_apart(void **state)
{
	int sv[2], wake[2];
	char b[4];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	assert_int_equal(pipe(wake), 0);
	assert_int_equal(link_read(sv[0], b, 4, in_ms(20), -1), -ETIMEDOUT);
	assert_int_equal(link_read(sv[0], b, 4, in_ms(20), wake[0]), -ETIMEDOUT);
	assert_int_equal(write(sv[1], "abcd", 4), 4);
	assert_int_equal(link_read(sv[0], b, 4, in_ms(20), wake[0]), 0);
	assert_memory_equal(b, "abcd", 4);
	assert_int_equal(write(wake[1], "", 1), 1);
	assert_int_equal(write(sv[1], "abcd", 4), 4);
	assert_int_equal(link_read(sv[0], b, 4, in_ms(20), wake[0]), -EINTR);
	assert_int_equal(link_read(sv[0], b, 4, 0, -1), 0);
	assert_int_equal(write(sv[1], "ab", 2), 2);
	close(sv[1]);
	assert_int_equal(link_read(sv[0], b, 4, in_ms(20), -1), -ECONNRESET);
	assert_int_equal(link_read(sv[0], b, 4, in_ms(20), -1), -ENODATA);
	assert_int_equal(link_write(sv[0], b, 4, in_ms(20)), -ECONNRESET);
	close(sv[0]);
	close(wake[0]);
	close(wake[1]);
}

static void test_writing_to_a_stuck_peer_is_bounded(void **state)
{
	int sv[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	size_t big = 8 << 20;
	char *buf = calloc(1, big);
	uint64_t t = mc_now();
	assert_int_equal(link_write(sv[0], buf, big, in_ms(50)), -ETIMEDOUT);
	assert_true(mc_now() - t < 3 * MC_SEC);
	free(buf);
	close(sv[0]);
	close(sv[1]);
}

static void write_file(const char *path, const void *data, size_t len, mode_t mode)
{
	unlink(path);
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, mode);
	assert_true(fd >= 0);
	assert_int_equal(fchmod(fd, mode), 0);
	assert_int_equal(write(fd, data, len), (ssize_t)len);
	close(fd);
}

static void test_key_files(void **state)
{
	char dir[] = "/tmp/mcd-test-link-XXXXXX", path[64];
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/key", dir);
	struct link_key a, b;
	struct mc_error err = MC_ERROR_INIT;

	assert_int_equal(link_key_load(path, &a, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "keygen"));
	assert_int_equal(link_key_create(path, &err), 0);
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_size, 129);
	assert_int_equal(link_key_load(path, &a, &err), 0);
	assert_int_equal(a.len, 64);
	assert_int_equal(link_key_create(path, &err), -EEXIST);
	assert_int_equal(link_key_load(path, &b, &err), 0);
	assert_memory_equal(&a, &b, sizeof a);

	static const mode_t open_modes[] = {0640, 0604, 0660, 0610};
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(chmod(path, open_modes[i]), 0);
		assert_int_equal(link_key_load(path, &b, &err), -EPERM);
		assert_string_equal(err.cls, MC_ECLASS_PERMISSION);
		assert_non_null(strstr(err.msg, "chmod 600"));
	}
	/* Text keeps its meaning when an editor adds a newline; binary is taken as it stands. */
	write_file(path, "a pass phrase of more than thirty-two characters \n\n", 51, 0600);
	assert_int_equal(link_key_load(path, &a, &err), 0);
	assert_int_equal(a.len, 48);
	uint8_t bin[700];
	memset(bin, 0xfe, sizeof bin);
	bin[31] = '\n';
	static const struct {
		size_t len;
		int r;
	} sizes[] = {
		{0, -EINVAL},
		{31, -EINVAL},
		{32, 0},
		{256, 0},
		{257, -EINVAL},
		{700, -EINVAL},
	};
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		write_file(path, bin, sizes[i].len, 0600);
		assert_int_equal(link_key_load(path, &a, &err), sizes[i].r);
		if (sizes[i].r == 0)
			assert_int_equal(a.len, sizes[i].len);
	}
	/* 62 hex digits are 31 bytes. */
	memset(bin, 'a', 64);
	write_file(path, bin, 62, 0400);
	assert_int_equal(link_key_load(path, &a, &err), -EINVAL);
	write_file(path, bin, 64, 0400);
	assert_int_equal(link_key_load(path, &a, &err), 0);
	assert_int_equal(a.len, 32);
	assert_int_equal(a.bytes[0], 0xaa);
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(link_key_load(path, &a, &err), -EINVAL);
	unlink(path);
	rmdir(dir);
}

int main(void)
{
	if (!own_netns()) {
		puts("SKIP: no network namespace of our own (needs root or user namespaces)");
		return 77;
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both_sides_learn_who_the_other_is),
		cmocka_unit_test(test_a_wrong_key_is_told_to_both_sides),
		cmocka_unit_test(test_a_wrong_name_is_told_to_both_sides),
		cmocka_unit_test(test_an_acceptor_refuses_another_version_and_says_its_own),
		cmocka_unit_test(test_a_connector_names_both_versions),
		cmocka_unit_test(test_a_proof_cannot_be_reflected),
		cmocka_unit_test(test_a_connector_survives_truncation_at_every_byte),
		cmocka_unit_test(test_an_acceptor_survives_truncation_at_every_byte),
		cmocka_unit_test(test_any_changed_bit_ends_the_handshake),
		cmocka_unit_test(test_garbage_is_a_protocol_error),
		cmocka_unit_test(test_nothing_is_parsed_before_the_proof),
		cmocka_unit_test(test_a_recorded_handshake_cannot_be_replayed),
		cmocka_unit_test(test_a_slow_peer_cannot_stretch_the_deadline),
		cmocka_unit_test(test_connect_fails_with_the_address_and_the_cure),
		cmocka_unit_test(test_reading_tells_the_ends_of_a_stream_apart),
		cmocka_unit_test(test_writing_to_a_stuck_peer_is_bounded),
		cmocka_unit_test(test_key_files),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
