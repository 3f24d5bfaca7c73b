/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Keep-alives between several instances in one process, in a network namespace of our own: who is
 * up, who fell silent and when, who is back; and a hand-made, broken peer. */
#include "common/clock.h"
#include "common/le.h"
#include "tests/unit/own-netns.h"
#include "tests/unit/wire/keepalive-hosts.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

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

/* What the owner does then takes locks that are held for long: no peer may pay for it. */
static void callback_that_blocks_holds_up_no_beat(void **state)
{
	struct host h[3];
	for (int i = 0; i < 3; i++)
		host_up(&h[i], i, 3);
	for (int i = 0; i < 3; i++)
		for (int j = 0; j < 3; j++)
			if (i != j)
				wait_event(&h[i], h[j].name, true, 1, soon());
	/* As by a `check` that runs on host 0 while host 2 dies. */
	pthread_mutex_lock(&h[0].lock);
	host_down(&h[2]);
	wait_event(&h[1], "host2", false, 1, soon());
	poll(NULL, 0, 2 * LIMIT / MC_MSEC);
	assert_true(keepalive_suspected(h[0].k, "host2"));
	pthread_mutex_unlock(&h[0].lock);
	assert_int_equal(count_events(&h[1], "host0", false), 0);
	wait_event(&h[0], "host2", false, 1, soon()); /* late, and not lost */
	for (int i = 0; i < 2; i++)
		host_down(&h[i]);
}

/* ---- a hand-made peer ---- */

static int connect_as_host1(struct host *h, uint64_t instance)
{
	struct mc_error err = MC_ERROR_INIT;
	struct link_self self = {"host1", &hosts_key, instance, "127.0.0.2"};
	struct link_target to = {h->name, h->address, PORT, LINK_KEEPALIVE, NULL};
	int fd = link_connect(&self, &to, soon(), NULL, &err);
	if (fd < 0)
		fail_msg("%s", err.msg);
	return fd;
}

static void send_one(int fd, uint64_t seq, uint64_t interval)
{
	uint8_t buf[BEAT_SIZE];
	beat_encode(buf, &(struct beat){seq, mc_now(), interval});
	assert_int_equal(send(fd, buf, sizeof buf, MSG_NOSIGNAL), sizeof buf);
}

static bool closed_by_other_side(int fd)
{
	char c;
	struct pollfd p = {fd, POLLIN, 0};
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
	static const struct {
		unsigned at, size;
		uint64_t value;
		bool reseal;
	} bad[] = {
		{0, 4, 0x12345678, true}, {4, 2, 2, true}, {6, 2, 1, true}, {8, 8, 0, true},
		{8, 8, 7, true},  /* the sequence number of the beat before */
		{16, 8, 0, true}, /* a time before it */
		{24, 8, 0, true}, {24, 8, MC_MSEC - 1, true}, {24, 8, 61 * MC_SEC, true},
		{24, 8, 2 * INTERVAL, false}, /* checksum */
	};
	struct host h;
	host_up(&h, 0, 2);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct keepalive_stats before, after;
		int fd = connect_as_host1(&h, 5);
		uint8_t buf[BEAT_SIZE];
		keepalive_get_stats(h.k, "host1", &before);
		send_one(fd, 7, INTERVAL);
		beat_encode(buf, &(struct beat){8, mc_now(), INTERVAL});
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
	struct keepalive_peer twice[2] = {{"a", "127.0.0.1", 1}, {"a", "127.0.0.2", 1}};
	struct keepalive_config cfg = {.self = "self",
		.key = &hosts_key,
		.interval = INTERVAL,
		.misses = 5,
		.peers = twice,
		.n_peers = 2};
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
		cmocka_unit_test(callback_that_blocks_holds_up_no_beat),
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
