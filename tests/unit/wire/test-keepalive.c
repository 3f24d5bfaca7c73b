/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Keep-alives between several instances in one process, in a network namespace of our own: who is
 * up, who fell silent and when, who is back; and a hand-made peer for what a broken one would send. */
#include "common/clock.h"
#include "mcd/wire/keepalive-private.h"
#include "common/le.h"
#include "tests/unit/own-netns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include <cmocka.h>

#define INTERVAL (50 * MC_MSEC) /* less, and a busy machine is late now and then */
#define MISSES   5
#define LIMIT    (INTERVAL * MISSES)
#define PORT     7801
#define HOSTS    4

static const struct link_key key = { 32, "a key for the tests, of 32 bytes" };

/* ---- a host: an instance and a listener that serves it ---- */

struct event { char peer[LINK_NAME_MAX + 1]; bool alive; uint64_t at, last_heard; };

struct host {
	int index;
	char name[20], address[24];
	int listener;
	pthread_t acceptor;
	_Atomic bool leaving;
	struct keepalive *k;
	pthread_mutex_t lock;
	struct event events[64];
	size_t n_events;
	int conns[32];
	pthread_t servers[32];
	size_t n_conns;
	_Atomic int policy_seen; /* of the thread that calls back */
};

struct serving { struct host *h; int fd; };

static void *serve(void *arg)
{
	struct serving s = *(struct serving *)arg;
	struct link_peer peer;
	free(arg);
	struct link_self self = { s.h->name, &key, 1000 + (uint64_t)s.h->index, NULL };
	if (link_accept(s.fd, &self, mc_now() + MC_SEC, &peer, NULL) == 0)
		keepalive_serve(s.h->k, s.fd, &peer);
	shutdown(s.fd, SHUT_RDWR);
	return NULL;
}

static void *accept_loop(void *arg)
{
	struct host *h = arg;
	while (!h->leaving) {
		struct pollfd p = { h->listener, POLLIN, 0 };
		if (poll(&p, 1, 10) <= 0)
			continue;
		struct serving *s = malloc(sizeof *s);
		*s = (struct serving){ h, accept4(h->listener, NULL, NULL, SOCK_CLOEXEC) };
		assert_true(s->fd >= 0 && h->n_conns < 32);
		h->conns[h->n_conns] = s->fd;
		pthread_create(&h->servers[h->n_conns++], NULL, serve, s);
	}
	return NULL;
}

static void note(struct host *h, const char *peer, bool alive, uint64_t last_heard)
{
	struct event e = { .alive = alive, .at = mc_now(), .last_heard = last_heard };
	strcpy(e.peer, peer);
	h->policy_seen = sched_getscheduler(0);
	pthread_mutex_lock(&h->lock);
	if (h->n_events < 64)
		h->events[h->n_events++] = e;
	pthread_mutex_unlock(&h->lock);
}

static void on_suspect(void *ctx, const char *peer, uint64_t last_heard)
{
	note(ctx, peer, false, last_heard);
}

static void on_alive(void *ctx, const char *peer)
{
	note(ctx, peer, true, 0);
}

/* The n-th event of that kind about that peer, waited for. */
static struct event wait_event(struct host *h, const char *peer, bool alive, unsigned nth,
	uint64_t deadline)
{
	for (;;) {
		unsigned seen = 0;
		pthread_mutex_lock(&h->lock);
		for (size_t i = 0; i < h->n_events; i++) {
			struct event e = h->events[i];
			if (e.alive == alive && !strcmp(e.peer, peer) && ++seen == nth) {
				pthread_mutex_unlock(&h->lock);
				return e;
			}
		}
		pthread_mutex_unlock(&h->lock);
		if (mc_now() > deadline)
			fail_msg("%s: no %s of %s", h->name, alive ? "return" : "suspicion", peer);
		poll(NULL, 0, 1);
	}
}

static size_t count_events(struct host *h, const char *peer, bool alive)
{
	size_t n = 0;
	pthread_mutex_lock(&h->lock);
	for (size_t i = 0; i < h->n_events; i++)
		n += h->events[i].alive == alive && !strcmp(h->events[i].peer, peer);
	pthread_mutex_unlock(&h->lock);
	return n;
}

/* Host i of n, 127.0.0.(i+1); the others are its peers. */
static void host_up(struct host *h, int i, int n)
{
	struct keepalive_peer peers[HOSTS];
	size_t n_peers = 0;
	memset(h, 0, sizeof *h);
	h->index = i;
	pthread_mutex_init(&h->lock, NULL);
	snprintf(h->name, sizeof h->name, "host%d", i);
	snprintf(h->address, sizeof h->address, "127.0.0.%d", i + 1);
	h->listener = link_listen(h->address, PORT, NULL);
	assert_true(h->listener >= 0);
	for (int j = 0; j < n; j++)
		if (j != i) {
			struct keepalive_peer *p = &peers[n_peers++];
			snprintf(p->name, sizeof p->name, "host%d", j);
			snprintf(p->address, sizeof p->address, "127.0.0.%d", j + 1);
			p->port = PORT;
		}
	const struct keepalive_config cfg = {
		.self = h->name, .local_address = h->address, .key = &key,
		.instance = 1000 + (uint64_t)i, .interval = INTERVAL, .misses = MISSES,
		.peers = peers, .n_peers = n_peers,
		.suspect = on_suspect, .alive = on_alive, .ctx = h,
	};
	struct mc_error err = MC_ERROR_INIT;
	if (keepalive_new(&cfg, &h->k, &err) != 0)
		fail_msg("%s", err.msg);
	memset(peers, 0xff, sizeof peers); /* keepalive_new has taken its copy */
	pthread_create(&h->acceptor, NULL, accept_loop, h);
}

static void host_down(struct host *h)
{
	h->leaving = true;
	pthread_join(h->acceptor, NULL);
	close(h->listener);
	keepalive_free(h->k);
	for (size_t i = 0; i < h->n_conns; i++) {
		shutdown(h->conns[i], SHUT_RDWR);
		pthread_join(h->servers[i], NULL);
		close(h->conns[i]);
	}
	pthread_mutex_destroy(&h->lock);
}

static uint64_t soon(void)
{
	return mc_now() + 10 * MC_SEC;
}

static void assert_suspected_in_time(const struct event *e)
{
	uint64_t took = e->at - e->last_heard;
	assert_true(took >= LIMIT);
	if (took > LIMIT + 3 * INTERVAL / 2)
		fail_msg("suspected only after %.1f ms", (double)took / 1e6);
}

/* ---- hosts among themselves ---- */

static void hosts_hear_each_other_and_know_who_it_is(void **state)
{
	struct host h[3];
	for (int i = 0; i < 3; i++)
		host_up(&h[i], i, 3);
	for (int i = 0; i < 3; i++)
		for (int j = 0; j < 3; j++) {
			struct keepalive_stats s;
			if (i == j)
				continue;
			wait_event(&h[i], h[j].name, true, 1, soon());
			assert_int_equal(keepalive_get_stats(h[i].k, h[j].name, &s), 0);
			assert_true(s.up);
			assert_true(s.beats > 0);
			assert_int_equal(s.instance, 1000 + j);
			assert_false(keepalive_suspected(h[i].k, h[j].name));
			assert_true(keepalive_age(h[i].k, h[j].name) < MC_SEC);
		}
	struct keepalive_stats s;
	assert_int_equal(keepalive_age(h[0].k, "stranger"), UINT64_MAX);
	assert_int_equal(keepalive_get_stats(h[0].k, "stranger", &s), -ENOENT);
	assert_false(keepalive_suspected(h[0].k, "stranger"));
	for (int i = 0; i < 3; i++)
		host_down(&h[i]);
}

static void dead_host_is_suspected_in_time_and_nobody_else(void **state)
{
	struct host h[3];
	for (int i = 0; i < 3; i++)
		host_up(&h[i], i, 3);
	for (int i = 0; i < 2; i++)
		wait_event(&h[i], "host2", true, 1, soon());
	wait_event(&h[0], "host1", true, 1, soon());
	wait_event(&h[1], "host0", true, 1, soon());
	host_down(&h[2]);
	for (int i = 0; i < 2; i++) {
		struct event e = wait_event(&h[i], "host2", false, 1, soon());
		assert_suspected_in_time(&e);
		assert_true(keepalive_suspected(h[i].k, "host2"));
		assert_true(keepalive_age(h[i].k, "host2") >= LIMIT);
	}
	/* Its dialers run into refusals for a second; the living do not notice. */
	poll(NULL, 0, 1000);
	assert_int_equal(count_events(&h[0], "host1", false), 0);
	assert_int_equal(count_events(&h[1], "host0", false), 0);

	host_up(&h[2], 2, 3);
	for (int i = 0; i < 2; i++) {
		wait_event(&h[i], "host2", true, 2, soon());
		assert_false(keepalive_suspected(h[i].k, "host2"));
		wait_event(&h[2], h[i].name, true, 1, soon());
	}
	for (int i = 0; i < 3; i++)
		host_down(&h[i]);
}

static void peer_that_accepts_and_never_answers_delays_nobody(void **state)
{
	struct host h[2];
	int hole = link_listen("127.0.0.3", PORT, NULL); /* connects, and no handshake ever */
	assert_true(hole >= 0);
	for (int i = 0; i < 2; i++)
		host_up(&h[i], i, 3);
	wait_event(&h[0], "host1", true, 1, soon());
	wait_event(&h[1], "host0", true, 1, soon());
	poll(NULL, 0, 1500); /* longer than a whole attempt to connect */
	for (int i = 0; i < 2; i++) {
		struct keepalive_stats s;
		keepalive_get_stats(h[i].k, h[1 - i].name, &s);
		assert_int_equal(count_events(&h[i], h[1 - i].name, false), 0);
		assert_true(s.beats > 15);
		assert_true(s.jitter_p99 <= s.jitter_max);
		assert_true(s.jitter_max < LIMIT);
	}
	close(hole);
	for (int i = 0; i < 2; i++)
		host_down(&h[i]);
}

static void peer_never_heard_is_suspected_after_first_contact_time(void **state)
{
	struct host h;
	uint64_t before = mc_now();
	host_up(&h, 0, 2);
	assert_int_equal(keepalive_age(h.k, "host1"), UINT64_MAX);
	assert_false(keepalive_suspected(h.k, "host1"));
	struct event e = wait_event(&h, "host1", false, 1, soon());
	assert_int_equal(e.last_heard, 0);
	assert_true(e.at - before >= FIRST_CONTACT + LIMIT);
	assert_true(e.at - before < FIRST_CONTACT + LIMIT + MC_SEC);
	host_down(&h);
}

static void callbacks_come_from_a_real_time_thread(void **state)
{
	struct sched_param sp = { 0 }, rr = { .sched_priority = 10 };
	if (sched_setscheduler(0, SCHED_RR, &rr) < 0) {
		print_message("skipped: real-time scheduling is not permitted here\n");
		skip();
	}
	sched_setscheduler(0, SCHED_OTHER, &sp);
	struct host h[2];
	for (int i = 0; i < 2; i++)
		host_up(&h[i], i, 2);
	wait_event(&h[0], "host1", true, 1, soon());
	assert_int_equal(h[0].policy_seen & ~SCHED_RESET_ON_FORK, SCHED_RR);
	for (int i = 0; i < 2; i++)
		host_down(&h[i]);
}

/* ---- a hand-made peer ---- */

static int connect_as_host1(struct host *h, uint64_t instance)
{
	struct mc_error err = MC_ERROR_INIT;
	struct link_self self = { "host1", &key, instance, "127.0.0.2" };
	struct link_target to = { h->name, h->address, PORT, LINK_KEEPALIVE, NULL };
	int fd = link_connect(&self, &to, soon(), NULL, &err);
	if (fd < 0)
		fail_msg("%s", err.msg);
	return fd;
}

static void send_one(int fd, uint64_t seq, uint64_t interval)
{
	uint8_t buf[BEAT_SIZE];
	beat_encode(buf, &(struct beat){ seq, mc_now(), interval });
	assert_int_equal(send(fd, buf, sizeof buf, MSG_NOSIGNAL), sizeof buf);
}

static bool closed_by_other_side(int fd)
{
	char c;
	struct pollfd p = { fd, POLLIN, 0 };
	return poll(&p, 1, 5000) == 1 && recv(fd, &c, 1, 0) <= 0;
}

static void open_connection_without_beats_is_silence(void **state)
{
	struct host h;
	host_up(&h, 0, 2);
	int fd = connect_as_host1(&h, 5);
	send_one(fd, 1, INTERVAL);
	wait_event(&h, "host1", true, 1, soon());
	struct event e = wait_event(&h, "host1", false, 1, soon());
	assert_suspected_in_time(&e);
	uint64_t sent = mc_now(); /* before: it may be heard before send returns */
	send_one(fd, 2, INTERVAL);
	e = wait_event(&h, "host1", true, 2, soon());
	assert_true(e.at - sent < 2 * MC_SEC);
	close(fd);
	host_down(&h);
}

static void slower_peer_is_given_its_own_time(void **state)
{
	struct host h;
	struct keepalive_stats s;
	host_up(&h, 0, 2);
	int fd = connect_as_host1(&h, 5);
	send_one(fd, 1, 4 * INTERVAL);
	wait_event(&h, "host1", true, 1, soon());
	struct event e = wait_event(&h, "host1", false, 1, soon());
	assert_true(e.at - e.last_heard >= 4 * LIMIT);
	keepalive_get_stats(h.k, "host1", &s);
	assert_false(s.up);
	close(fd);
	host_down(&h);
}

static void restart_of_a_peer_shows_in_its_instance(void **state)
{
	struct host h;
	struct keepalive_stats s;
	host_up(&h, 0, 2);
	int old = connect_as_host1(&h, 5);
	send_one(old, 1, INTERVAL);
	wait_event(&h, "host1", true, 1, soon());
	keepalive_get_stats(h.k, "host1", &s);
	assert_int_equal(s.instance, 5);
	int new = connect_as_host1(&h, 6);
	send_one(new, 1, INTERVAL);
	for (uint64_t end = soon(); s.instance != 6 || s.beats < 2; poll(NULL, 0, 1)) {
		assert_true(mc_now() < end);
		keepalive_get_stats(h.k, "host1", &s);
	}
	/* What the leftover of the dead process still says does not count. */
	send_one(old, 2, INTERVAL);
	assert_true(closed_by_other_side(old));
	keepalive_get_stats(h.k, "host1", &s);
	assert_int_equal(s.beats, 2);
	close(old);
	close(new);
	host_down(&h);
}

static void late_beat_shows_as_jitter(void **state)
{
	struct host h;
	struct keepalive_stats s;
	host_up(&h, 0, 2);
	int fd = connect_as_host1(&h, 5);
	send_one(fd, 1, INTERVAL);
	wait_event(&h, "host1", true, 1, soon());
	poll(NULL, 0, 90);
	send_one(fd, 2, INTERVAL);
	do
		keepalive_get_stats(h.k, "host1", &s);
	while (s.beats < 2 && poll(NULL, 0, 1) == 0);
	assert_true(s.jitter_max >= 35 * MC_MSEC);
	assert_true(s.jitter_max < MC_SEC);
	close(fd);
	host_down(&h);
}

static void every_field_out_of_order_ends_the_connection(void **state)
{
	static const struct { unsigned at, size; uint64_t value; bool reseal; } bad[] = {
		{ 0, 4, 0x12345678, true },
		{ 4, 2, 2, true },
		{ 6, 2, 1, true },
		{ 8, 8, 0, true },
		{ 8, 8, 7, true },         /* the sequence number of the beat before */
		{ 16, 8, 0, true },        /* a time before it */
		{ 24, 8, 0, true },
		{ 24, 8, MC_MSEC - 1, true },
		{ 24, 8, 61 * MC_SEC, true },
		{ 24, 8, 2 * INTERVAL, false }, /* checksum */
	};
	struct host h;
	host_up(&h, 0, 2);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct keepalive_stats before, after;
		int fd = connect_as_host1(&h, 5);
		uint8_t buf[BEAT_SIZE];
		keepalive_get_stats(h.k, "host1", &before);
		send_one(fd, 7, INTERVAL);
		beat_encode(buf, &(struct beat){ 8, mc_now(), INTERVAL });
		uint64_t v = htole64(bad[i].value);
		memcpy(buf + bad[i].at, &v, bad[i].size);
		if (bad[i].reseal)
			put_le64(buf + 32, XXH3_64bits(buf, 32));
		assert_int_equal(send(fd, buf, sizeof buf, MSG_NOSIGNAL), sizeof buf);
		if (!closed_by_other_side(fd))
			fail_msg("case %zu was accepted", i);
		keepalive_get_stats(h.k, "host1", &after);
		assert_int_equal(after.beats, before.beats + 1);
		close(fd);
	}
	host_down(&h);
}

static void bad_configuration_is_refused(void **state)
{
	struct keepalive_peer twice[2] = { { "a", "127.0.0.1", 1 }, { "a", "127.0.0.2", 1 } };
	struct keepalive_config cfg = { .self = "self", .key = &key, .interval = INTERVAL, .misses = 5,
		.peers = twice, .n_peers = 2 };
	struct keepalive *k = NULL;
	struct mc_error err = MC_ERROR_INIT;
	assert_int_equal(keepalive_new(&cfg, &k, &err), -EINVAL);
	strcpy(twice[1].name, "self");
	assert_int_equal(keepalive_new(&cfg, &k, &err), -EINVAL);
	cfg.n_peers = 1;
	cfg.interval = 0;
	assert_int_equal(keepalive_new(&cfg, &k, &err), -EINVAL);
	assert_null(k);
	keepalive_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hosts_hear_each_other_and_know_who_it_is),
		cmocka_unit_test(dead_host_is_suspected_in_time_and_nobody_else),
		cmocka_unit_test(peer_that_accepts_and_never_answers_delays_nobody),
		cmocka_unit_test(peer_never_heard_is_suspected_after_first_contact_time),
		cmocka_unit_test(callbacks_come_from_a_real_time_thread),
		cmocka_unit_test(open_connection_without_beats_is_silence),
		cmocka_unit_test(slower_peer_is_given_its_own_time),
		cmocka_unit_test(restart_of_a_peer_shows_in_its_instance),
		cmocka_unit_test(late_beat_shows_as_jitter),
		cmocka_unit_test(every_field_out_of_order_ends_the_connection),
		cmocka_unit_test(bad_configuration_is_refused),
	};
	if (!own_netns()) {
		puts("skipped: no network namespace of our own (needs root or user namespaces)");
		return 77;
	}
	return cmocka_run_group_tests_name("keepalive", tests, NULL, NULL);
}
