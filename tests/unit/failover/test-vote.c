/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the voters promise (failover/vote.h), three of them. */
#include "common/clock.h"
#include "failover/vote-wire.h"
#include "tests/unit/failover/vote-rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void test_the_life_of_a_vm(void **state)
{
	struct own_record r;
	struct mc_error err = MC_ERROR_INIT;
	voter_known(hosts[A].voter, VM, &r);
	assert_int_equal(r.generation, 0);
	must_win(A, 1, "hostA", "");
	must_win(A, 2, "hostA", "hostB");
	wait_known(B, 2);
	must_win(B, 3, "hostB", "");
	/* The old primary learns that it lost, whatever it asks for. */
	assert_int_equal(propose(A, 3, "hostA", "", 5000, &r, &err), -ESTALE);
	assert_string_equal(r.owner, "hostB");
	assert_int_equal(r.generation, 3);
	assert_string_equal(err.cls, MC_ECLASS_NOT_OWNER);
	/* Asking again for what was decided is answered again. */
	must_win(B, 3, "hostB", "");
	must_win(B, 4, "hostB", "hostA");
	wait_known(A, 4);
	must_win(B, 5, "hostA", ""); /* handover */
	wait_known(A, 5);
	must_win(A, 6, "", ""); /* stop */
	wait_known(C, 6);
	must_win(C, 7, "hostC", ""); /* start elsewhere */
	for (unsigned i = 0; i < HOSTS; i++) {
		wait_known(i, 7);
		for (uint64_t end = in_ms(2000); hosts[i].learned < 7 && mc_now() < end;
			usleep(500))
			;
		assert_int_equal(hosts[i].learned, 7);
	}
}

static void test_what_may_not_be_proposed_is_not_asked(void **state)
{
	struct own_record r;
	struct mc_error err = MC_ERROR_INIT;
	must_win(A, 1, "hostA", "");
	wait_known(B, 1);
	assert_int_equal(propose(B, 2, "hostB", "", 1000, &r, &err), -EPERM);
	assert_string_equal(err.cls, MC_ECLASS_NOT_OWNER);
	assert_int_equal(propose(A, 2, "hostC", "", 1000, &r, &err), -EPERM);
	assert_int_equal(propose(A, 2, "hostA", "hostX", 1000, &r, &err), -EPERM);
	assert_int_equal(propose(A, 3, "hostA", "", 1000, &r, &err), -EINVAL);
	assert_int_equal(propose(A, 2, "", "hostB", 1000, &r, &err), -EINVAL);
	struct own_record next = rec(1, "hostA", "");
	assert_int_equal(
		voter_propose(hosts[A].voter, "../x", &next, in_ms(100), &r, &err), -EINVAL);
	assert_int_equal(voter_propose(hosts[A].voter, ".x", &next, in_ms(100), &r, &err), -EINVAL);
}

static void test_one_dead_voter_delays_nothing(void **state)
{
	host_stop(C);
	must_win(A, 1, "hostA", "");
	must_win(A, 2, "hostA", "hostB");
	host_start(C);
	assert_true(wait_connected(A, 3));
	wait_known(C, 2); /* told on connecting */
	host_mute(A);
	wait_known(B, 2);
	struct own_record r;
	uint64_t t = mc_now();
	assert_int_equal(propose(B, 3, "hostB", "", 5000, &r, NULL), 0);
	assert_true(mc_now() - t < 3 * MC_SEC);
}

static void test_two_dead_voters_leave_it_undecided_in_bounded_time(void **state)
{
	struct own_record r = rec(9, "x", "y"), untouched = r;
	struct mc_error err = MC_ERROR_INIT;
	must_win(A, 1, "hostA", "");
	host_stop(B);
	host_mute(C);
	uint64_t t = mc_now();
	assert_int_equal(propose(A, 2, "hostA", "hostB", 300, &r, &err), -ENOLINK);
	uint64_t took = mc_now() - t;
	assert_true(took >= 290 * MC_MSEC && took < 3 * MC_SEC);
	assert_string_equal(err.cls, MC_ECLASS_NO_MAJORITY);
	assert_non_null(strstr(err.msg, "hostB"));
	assert_memory_equal(&r, &untouched, sizeof r);
	assert_int_equal(voter_current(hosts[A].voter, VM, in_ms(100), &r, &err), -ENOLINK);
	/* Going on asking with the same record decides it as soon as there is a majority. */
	host_start(B);
	must_win(A, 2, "hostA", "hostB");
}

static void test_the_operators_word_is_kept_and_spread(void **state)
{
	struct own_record r = rec(9, "x", "y"), next = rec(3, "hostB", "");
	struct mc_error err = MC_ERROR_INIT;
	must_win(A, 1, "hostA", "");
	must_win(A, 2, "hostA", "hostB");
	wait_known(B, 2);
	wait_known(C, 2);
	struct own_record other = rec(3, "hostC", "");
	assert_int_equal(voter_force(hosts[C].voter, VM, &other, &r, &err), -EPERM);
	host_stop(A);
	host_stop(C);
	assert_int_equal(propose(B, 3, "hostB", "", 100, &r, &err), -ENOLINK);
	/* What this host itself proposed in vain does not stand against it. */
	assert_int_equal(voter_force(hosts[B].voter, VM, &next, &r, &err), 0);
	assert_string_equal(r.owner, "hostB");
	host_stop(B);
	host_start(B);
	host_start(A);
	wait_known(A, 3);
	assert_int_equal(propose(A, 3, "hostA", "", 500, &r, &err), -ESTALE);
	assert_string_equal(r.owner, "hostB");
	/* And from there on the majority decides again. */
	must_win(B, 4, "hostB", "hostA");
	host_start(C);
	wait_known(C, 4);
}

struct asker {
	pthread_t thread;
	unsigned host;
	struct own_record next, got;
	uint64_t deadline, took;
	int r;
	struct mc_error err;
	pthread_barrier_t *barrier;
};

static void *ask_thread(void *arg)
{
	struct asker *a = arg;
	if (a->barrier)
		pthread_barrier_wait(a->barrier);
	uint64_t t = mc_now();
	a->r = voter_propose(hosts[a->host].voter, VM, &a->next, a->deadline, &a->got, &a->err);
	a->took = mc_now() - t;
	return NULL;
}

static void test_a_majority_that_comes_late_is_used(void **state)
{
	must_win(A, 1, "hostA", "");
	host_stop(B);
	host_stop(C);
	struct asker a = {.host = A, .next = rec(2, "hostA", "hostB"), .deadline = in_ms(10000)};
	pthread_create(&a.thread, NULL, ask_thread, &a);
	usleep(200000);
	host_start(B);
	pthread_join(a.thread, NULL);
	assert_int_equal(a.r, 0);
	assert_true(a.took > 190 * MC_MSEC && a.took < 3000 * MC_MSEC);
}

static void test_exactly_one_of_two_concurrent_proposals_wins(void **state)
{
	uint64_t g = 2, longest = 0;
	unsigned wins[2] = {0};
	must_win(A, 1, "hostA", "");
	must_win(A, 2, "hostA", "hostB");
	pthread_barrier_t barrier;
	pthread_barrier_init(&barrier, NULL, 2);
	for (int round = 0; round < 150; round++) {
		wait_known(A, g);
		wait_known(B, g);
		struct asker a[2];
		for (unsigned i = 0; i < 2; i++) {
			a[i] = (struct asker){.host = i,
				.next = rec(g + 1, peers[i].name, ""),
				.deadline = in_ms(10000),
				.barrier = &barrier};
			pthread_create(&a[i].thread, NULL, ask_thread, &a[i]);
		}
		for (unsigned i = 0; i < 2; i++) {
			pthread_join(a[i].thread, NULL);
			longest = a[i].took > longest ? a[i].took : longest;
		}
		assert_true(
			(a[0].r == 0 && a[1].r == -ESTALE) || (a[0].r == -ESTALE && a[1].r == 0));
		assert_memory_equal(&a[0].got, &a[1].got, sizeof a[0].got);
		unsigned winner = a[0].r != 0;
		assert_string_equal(a[0].got.owner, peers[winner].name);
		wins[winner]++;
		must_win(winner, g + 2, peers[winner].name, peers[!winner].name);
		g += 2;
	}
	pthread_barrier_destroy(&barrier);
	printf("150 races: hostA won %u, hostB %u; longest %.1f ms\n", wins[0], wins[1],
		(double)longest / 1e6);
}

static void *open_gate_later(void *arg)
{
	usleep(150000);
	hosts[A].gate_closed = false;
	return NULL;
}

static void test_who_is_not_quorate_neither_asks_nor_grants(void **state)
{
	struct own_record r;
	struct mc_error err = MC_ERROR_INIT;
	pthread_t opener;
	must_win(A, 1, "hostA", "");
	for (unsigned i = 0; i < HOSTS; i++)
		wait_known(i, 1);

	hosts[A].gate_closed = true;
	assert_int_equal(propose(A, 2, "hostA", "hostB", 100, &r, &err), -ENOLINK);
	assert_string_equal(err.cls, MC_ECLASS_NO_MAJORITY);
	/* It asks as soon as it may. */
	assert_int_equal(pthread_create(&opener, NULL, open_gate_later, NULL), 0);
	uint64_t start = mc_now();
	must_win(A, 2, "hostA", "hostB");
	assert_true(mc_now() - start > 100 * MC_MSEC && mc_now() - start < 3 * MC_SEC);
	pthread_join(opener, NULL);

	/* The silence of one costs nothing, of two the majority: a refusal is never a promise. */
	hosts[C].gate_closed = true;
	must_win(A, 3, "hostA", "");
	hosts[B].gate_closed = true;
	assert_int_equal(propose(A, 4, "hostA", "hostB", 200, &r, &err), -ENOLINK);
	hosts[B].gate_closed = hosts[C].gate_closed = false;
	must_win(A, 4, "hostA", "hostB");
	/* What is decided is told and asked all the same. */
	hosts[C].gate_closed = true;
	wait_known(C, 4);
	assert_int_equal(voter_current(hosts[C].voter, VM, in_ms(2000), &r, &err), 0);
	assert_int_equal(r.generation, 4);
}

static void test_a_restart_remembers(void **state)
{
	must_win(A, 1, "hostA", "");
	must_win(A, 2, "hostA", "hostB");
	wait_known(B, 2);
	wait_known(C, 2);
	for (unsigned i = 0; i < HOSTS; i++)
		host_stop(i);
	/* Each from its own disk, before it has spoken to anybody. */
	for (unsigned i = 0; i < HOSTS; i++) {
		struct own_record r;
		host_start(i);
		voter_known(hosts[i].voter, VM, &r);
		assert_int_equal(r.generation, 2);
		assert_string_equal(r.standby, "hostB");
		host_stop(i);
	}
	for (unsigned i = 0; i < HOSTS; i++)
		host_start(i);
	must_win(B, 3, "hostB", "");
}

static void test_a_stale_standby_never_wins(void **state)
{
	struct own_record r;
	struct mc_error err = MC_ERROR_INIT;
	must_win(A, 1, "hostA", "");
	must_win(A, 2, "hostA", "hostC");
	wait_known(C, 2);
	host_stop(C); /* goes away with an image of generation 2 */
	must_win(A, 3, "hostA", "");
	must_win(A, 4, "hostA", "hostB");
	host_stop(A);
	host_stop(B);
	host_start(C); /* and comes back alone */
	assert_int_equal(propose(C, 3, "hostC", "", 200, &r, &err), -ENOLINK);
	/* It has accepted itself on its own disk; nobody else may ever. */
	host_start(B);
	assert_int_equal(propose(C, 3, "hostC", "", 5000, &r, &err), -ESTALE);
	assert_int_equal(r.generation, 4);
	assert_int_equal(propose(C, 5, "hostC", "", 1000, &r, &err), -EPERM);
	must_win(B, 5, "hostB", "");
}

static void test_an_undecided_proposal_is_finished_by_the_other(void **state)
{
	struct own_record r;
	struct mc_error err = MC_ERROR_INIT;
	must_win(A, 1, "hostA", "");
	must_win(A, 2, "hostA", "hostB");
	wait_known(B, 2);
	wait_known(C, 2);
	host_stop(A);
	host_stop(C);
	/* B alone accepts its fast ballot, then dies undecided. */
	assert_int_equal(propose(B, 3, "hostB", "", 150, &r, &err), -ENOLINK);
	host_start(A);
	/* A reaches B only: B's promise reports the value, which A must bring to its end. */
	assert_int_equal(propose(A, 3, "hostA", "", 5000, &r, &err), -ESTALE);
	assert_string_equal(r.owner, "hostB");
	assert_int_equal(r.generation, 3);
}

static void test_reading_asks_a_majority(void **state)
{
	struct own_record r;
	struct mc_error err = MC_ERROR_INIT;
	assert_int_equal(voter_current(hosts[C].voter, VM, in_ms(2000), &r, &err), 0);
	assert_int_equal(r.generation, 0);
	host_stop(C);
	must_win(A, 1, "hostA", "");
	must_win(A, 2, "hostA", "hostB");
	host_start(C);
	assert_int_equal(voter_current(hosts[C].voter, VM, in_ms(5000), &r, &err), 0);
	assert_int_equal(r.generation, 2);
}

static void test_garbage_on_a_vote_connection_ends_only_that(void **state)
{
	must_win(A, 1, "hostA", "");
	struct vote_msg msg = {.id = 5, .subject = VM, .paxos.type = PAXOS_QUERY};
	for (int i = 0; i < 60; i++) {
		struct mc_error err = MC_ERROR_INIT;
		/* Somebody with the key who is not a voter, or pretends to be the host itself. */
		const char *self = i % 3 == 0 ? "hostX" : i % 3 == 1 ? "hostA" : "hostC";
		struct link_self stranger = {self, &key, 99, NULL};
		struct link_target to = {"hostA", "127.0.0.1", peers[A].port, LINK_VOTE, NULL};
		int fd = link_connect(&stranger, &to, in_ms(2000), NULL, &err);
		assert_true(fd >= 0);
		uint8_t buf[VOTE_MSG_SIZE], answer[VOTE_MSG_SIZE];
		vote_encode(buf, &msg);
		if (i % 3 == 2)
			for (int j = 0; j < 1 + i / 3 % 4; j++)
				buf[rand() % 8] ^= (uint8_t)(1 << rand() % 8);
		if (i % 3 == 2 && i % 2)
			for (size_t j = 0; j < sizeof buf; j++)
				buf[j] = (uint8_t)rand();
		struct vote_msg parsed;
		bool valid = i % 3 == 2 && vote_decode(&parsed, buf) &&
			     parsed.paxos.type < PAXOS_PROMISE;
		link_write(fd, buf, sizeof buf, in_ms(1000));
		int r = link_read(fd, answer, sizeof answer, in_ms(2000), -1);
		if (valid)
			assert_int_equal(r, 0);
		else
			assert_true(r == -ENODATA || r == -ECONNRESET);
		close(fd);
	}
	must_win(A, 2, "hostA", "hostB");
}

static void test_a_message_is_only_what_was_encoded(void **state)
{
	struct vote_msg m = {.id = 42,
		.group = 7,
		.subject = VM,
		.paxos = {.type = PAXOS_PROMISE,
			.decided = {4, "hostA", "hostB"},
			.ballot = {3, paxos_host_id("hostA")},
			.promised = {3, paxos_host_id("hostA")},
			.accepted = {2, BALLOT_BY_PLACE(2)},
			.value = {5, "hostB", ""}}};
	uint8_t p[VOTE_MSG_SIZE], q[VOTE_MSG_SIZE];
	struct vote_msg got;
	vote_encode(p, &m);
	assert_true(vote_decode(&got, p));
	assert_memory_equal(&got, &m, sizeof m);
	/* Nobody proposes in the ballot of a host that is not known. */
	m.paxos.ballot.host = BALLOT_BY_PLACE(1);
	vote_encode(q, &m);
	assert_false(vote_decode(&got, q));
	assert_false(vote_other_version(q));
	q[5]--;
	assert_true(vote_other_version(q));
	/* Any other bytes are refused, or are another message's own encoding. */
	srand(3);
	unsigned refused = 0;
	for (size_t i = 0; i < 8 * sizeof p; i++) {
		memcpy(q, p, sizeof p);
		q[i / 8] ^= (uint8_t)(1 << i % 8);
		if (vote_decode(&got, q)) {
			uint8_t again[VOTE_MSG_SIZE];
			vote_encode(again, &got);
			assert_memory_equal(again, q, sizeof q);
		} else {
			refused++;
		}
	}
	assert_true(refused > 2000);
}

static void test_hosts_with_other_voters_do_not_count(void **state)
{
	struct voter_peer four[4];
	struct own_record r;
	struct mc_error err = MC_ERROR_INIT;
	memcpy(four, peers, sizeof peers);
	four[3] = (struct voter_peer){.name = "hostD", .address = "127.0.0.1", .port = 1};
	host_stop(B);
	host_stop(C);
	assert_int_equal(host_open(B, four, 4), 0);
	host_listen(B);
	assert_int_equal(propose(A, 1, "hostA", "", 700, &r, &err), -ENOLINK);
	assert_true(wait_connected(A, 2));
	/* Neither way. */
	struct own_record next = rec(1, "hostB", "");
	assert_int_equal(voter_propose(hosts[B].voter, VM, &next, in_ms(700), &r, &err), -ENOLINK);
}

static void test_a_voter_with_a_damaged_disk_does_not_vote(void **state)
{
	struct own_record r;
	struct mc_error err = MC_ERROR_INIT;
	must_win(A, 1, "hostA", "");
	must_win(A, 2, "hostA", "hostB");
	wait_known(C, 2);
	host_stop(A);
	char path[128];
	snprintf(path, sizeof path, "%s/hostA/votes/" VM, root);
	assert_int_equal(truncate(path, 100), 0);
	host_start(A);
	assert_true(wait_connected(A, 3));
	wait_known(A, 2); /* it still hears what is decided */
	assert_int_equal(propose(A, 3, "hostA", "", 2000, &r, &err), -EIO);
	/* With C gone, A is not the majority that B needs. */
	host_stop(C);
	assert_int_equal(propose(B, 3, "hostB", "", 300, &r, &err), -ENOLINK);
	host_start(C);
	must_win(B, 3, "hostB", "");
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 100); /* left for the administrator */
}

static void test_others_are_asked_what_they_heard(void **state)
{
	assert_true(voter_ask_heard(hosts[B].voter, "hostA", in_ms(1000)) == UINT64_MAX);
	hosts[C].heard = 30 * MC_MSEC;
	hosts[A].heard = 1; /* the host in question is not asked */
	assert_int_equal(voter_ask_heard(hosts[B].voter, "hostA", in_ms(1000)), 30 * MC_MSEC);
	host_mute(C);
	assert_true(wait_connected(B, 3));
	uint64_t t = mc_now();
	assert_true(voter_ask_heard(hosts[B].voter, "hostA", in_ms(50)) == UINT64_MAX);
	assert_true(mc_now() - t < 3 * MC_SEC);
	host_stop(C);
	host_stop(A);
	usleep(100000);
	t = mc_now();
	assert_true(voter_ask_heard(hosts[B].voter, "hostA", in_ms(5000)) == UINT64_MAX);
	assert_true(mc_now() - t < 1000 * MC_MSEC);
}

static void test_closing_wakes_everybody(void **state)
{
	must_win(A, 1, "hostA", "");
	host_mute(B);
	host_mute(C);
	struct asker a = {.host = A, .next = rec(2, "hostA", "hostB"), .deadline = in_ms(60000)};
	pthread_create(&a.thread, NULL, ask_thread, &a);
	usleep(100000);
	uint64_t t = mc_now();
	host_stop(A);
	pthread_join(a.thread, NULL);
	assert_int_equal(a.r, -ENOLINK);
	assert_true(mc_now() - t < 3000 * MC_MSEC);
}

static void test_a_state_directory_has_one_user(void **state)
{
	struct voter *second = NULL;
	struct mc_error err = MC_ERROR_INIT;
	struct voter_config cfg = {.self = "hostA",
		.voters = peers,
		.n_voters = HOSTS,
		.state_dir = hosts[A].dir,
		.key = &key,
		.instance = 5};
	assert_int_equal(voter_open(&cfg, &second, &err), -EBUSY);
	cfg.self = "hostX";
	assert_int_equal(voter_open(&cfg, &second, &err), -EINVAL);
	struct voter_peer twice[2] = {peers[0], peers[0]};
	cfg = (struct voter_config){.self = "hostA",
		.voters = twice,
		.n_voters = 2,
		.state_dir = hosts[A].dir,
		.key = &key};
	assert_int_equal(voter_open(&cfg, &second, &err), -EINVAL);
	assert_null(second);
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static void report(const char *what, uint64_t *t, size_t n)
{
	qsort(t, n, sizeof *t, by_value);
	printf("%-44s median %.2f ms, p10 %.2f, p90 %.2f, max %.2f (n=%zu)\n", what,
		(double)t[n / 2] / 1e6, (double)t[n / 10] / 1e6, (double)t[n * 9 / 10] / 1e6,
		(double)t[n - 1] / 1e6, n);
}

/* Not a promise on time: a figure for the log, with a bound that only a bug would break. */
static void test_report_latency(void **state)
{
	enum { N = 100 };
	uint64_t takeover[N], protect[N], g = 2;
	must_win(A, 1, "hostA", "");
	must_win(A, 2, "hostA", "hostB");
	for (int dead = 0; dead < 2; dead++) {
		if (dead) {
			host_mute(C);
			assert_true(wait_connected(A, 3) && wait_connected(B, 3));
		}
		for (unsigned i = 0; i < N; i++) {
			unsigned standby = i % 2 ? A : B, old = !standby;
			wait_known(standby, g);
			uint64_t t = mc_now();
			must_win(standby, g + 1, peers[standby].name, "");
			takeover[i] = mc_now() - t;
			t = mc_now();
			must_win(standby, g + 2, peers[standby].name, peers[old].name);
			protect[i] = mc_now() - t;
			g += 2;
		}
		report(dead ? "takeover (fast ballot), 1 of 3 dead"
			    : "takeover (fast ballot), 3 live",
			takeover, N);
		report(dead ? "owner's change (two phases), 1 of 3 dead"
			    : "owner's change (two phases), 3 live",
			protect, N);
		assert_true(takeover[N / 2] < 500 * MC_MSEC);
	}
}

int main(void)
{
	if (!rig_enter()) {
		puts("SKIP: no network namespace of our own (needs root or user namespaces)");
		return 77;
	}
#define t(name) cmocka_unit_test_setup_teardown(test_##name, rig_setup, rig_teardown)
	const struct CMUnitTest tests[] = {
		t(the_life_of_a_vm),
		t(what_may_not_be_proposed_is_not_asked),
		t(one_dead_voter_delays_nothing),
		t(two_dead_voters_leave_it_undecided_in_bounded_time),
		t(the_operators_word_is_kept_and_spread),
		t(a_majority_that_comes_late_is_used),
		t(exactly_one_of_two_concurrent_proposals_wins),
		t(who_is_not_quorate_neither_asks_nor_grants),
		t(a_restart_remembers),
		t(a_stale_standby_never_wins),
		t(an_undecided_proposal_is_finished_by_the_other),
		t(reading_asks_a_majority),
		t(garbage_on_a_vote_connection_ends_only_that),
		cmocka_unit_test(test_a_message_is_only_what_was_encoded),
		t(hosts_with_other_voters_do_not_count),
		t(a_voter_with_a_damaged_disk_does_not_vote),
		t(others_are_asked_what_they_heard),
		t(closing_wakes_everybody),
		t(a_state_directory_has_one_user),
		t(report_latency),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
