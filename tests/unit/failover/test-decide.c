/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of "when things die", then properties over every combination of facts. */
#include "common/clock.h"
#include "failover/decide.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#define HEAD_START (600 * MC_MSEC)
#define UP         .link_up = true
#define Q          .quorate = true
#define IMG        .image_complete = true
#define P          .role = DECIDE_PRIMARY
#define S          .role = DECIDE_STANDBY

static const struct decide_config automatic = {.head_start = HEAD_START, .automatic = true};
static const struct decide_config manual = {.head_start = HEAD_START, .automatic = false};

struct row {
	const char *event;
	const struct decide_config *config;
	struct decide_facts facts;
	enum decide_action expect;
};

static const struct row rows[] = {
	{"primary, all well", &automatic, {P, UP, Q}, ACT_CONTINUE},
	{"standby, all well", &automatic, {S, UP, Q, IMG}, ACT_CONTINUE},

	/* primary host lost */
	{"nobody hears the primary", &automatic,
		{S, Q, IMG, .peer_suspected = true, .since_link_down = 1}, ACT_PROPOSE_SELF},
	{"power-off: the connection looks up, all are silent", &automatic,
		{S, UP, Q, IMG, .peer_suspected = true}, ACT_PROPOSE_SELF},
	{"asked, no outcome yet", &automatic,
		{S, Q, IMG, .peer_suspected = true, .ownership = OWN_UNDECIDED}, ACT_HOLD},
	{"won", &automatic, {S, Q, IMG, .peer_suspected = true, .ownership = OWN_ALONE},
		ACT_ACTIVATE},
	{"won, then dropped from the quorum: it is decided", &automatic,
		{S, IMG, .ownership = OWN_ALONE}, ACT_ACTIVATE},
	{"won, standby QEMU gone: restarted and activated", &automatic,
		{S, Q, IMG, .guest_gone = true, .ownership = OWN_ALONE}, ACT_ACTIVATE},
	{"lost", &automatic, {S, Q, IMG, .peer_suspected = true, .ownership = OWN_LOST},
		ACT_DESTROY},
	{"failover = manual", &manual, {S, Q, IMG, .peer_suspected = true}, ACT_HOLD},
	{"standby not quorate", &automatic, {S, IMG, .peer_suspected = true}, ACT_HOLD},
	{"standby with half an image", &automatic, {S, Q, .peer_suspected = true}, ACT_DESTROY},

	/* standby host lost */
	{"connection lost", &automatic, {P, Q, .since_link_down = 1}, ACT_PROPOSE_SELF},
	{"standby silent", &automatic, {P, UP, Q, .peer_suspected = true}, ACT_PROPOSE_SELF},
	{"standby acknowledges nothing", &automatic, {P, UP, Q, .ack_overdue = true},
		ACT_PROPOSE_SELF},
	{"asked, no outcome yet", &automatic, {P, Q, .ownership = OWN_UNDECIDED}, ACT_HOLD},
	{"undecided, standby back", &automatic, {P, UP, Q, .ownership = OWN_UNDECIDED}, ACT_HOLD},
	{"won", &automatic, {P, Q, .ownership = OWN_ALONE}, ACT_RELEASE},
	{"lost", &automatic, {P, Q, .ownership = OWN_LOST}, ACT_DESTROY},
	{"also when failover is manual", &manual, {P, Q, .peer_suspected = true}, ACT_PROPOSE_SELF},

	/* replication link only */
	{"standby: keep-alives still heard", &automatic, {S, Q, IMG, .since_link_down = 1},
		ACT_WAIT},
	{"standby: only others hear it", &automatic,
		{S, Q, IMG, .peer_suspected = true, .others_hear_peer = true,
			.since_link_down = HEAD_START - 1},
		ACT_WAIT},
	{"standby: head start over", &automatic,
		{S, Q, IMG, .others_hear_peer = true, .since_link_down = HEAD_START},
		ACT_PROPOSE_SELF},
	{"standby: head start over, suspected", &automatic,
		{S, Q, IMG, .peer_suspected = true, .others_hear_peer = true,
			.since_link_down = HEAD_START},
		ACT_PROPOSE_SELF},
	{"standby: keep-alives cut, data flows, others hear", &automatic,
		{S, UP, Q, IMG, .peer_suspected = true, .others_hear_peer = true}, ACT_WAIT},
	{"standby: primary went on alone", &automatic,
		{S, Q, IMG, .ownership = OWN_LOST, .since_link_down = 1}, ACT_DESTROY},

	/* primary isolated */
	{"primary not quorate", &automatic, {P, .peer_suspected = true}, ACT_HOLD},
	{"undecided and not quorate", &automatic, {P, .ownership = OWN_UNDECIDED}, ACT_HOLD},
	{"learns that it lost, still not quorate", &automatic, {P, .ownership = OWN_LOST},
		ACT_DESTROY},
	{"quorate again, nobody took over", &automatic, {P, Q, .peer_suspected = true},
		ACT_PROPOSE_SELF},

	/* guests */
	{"QEMU primary crashes", &automatic, {P, UP, Q, .guest_gone = true}, ACT_HAND_OVER},
	{"QEMU primary crashes, link down too", &automatic, {P, Q, .guest_gone = true},
		ACT_HAND_OVER},
	{"QEMU crashes while undecided", &automatic,
		{P, Q, .guest_gone = true, .ownership = OWN_UNDECIDED}, ACT_HAND_OVER},
	{"QEMU crashes, not quorate", &automatic, {P, UP, .guest_gone = true}, ACT_HOLD},
	{"QEMU crashes, nobody to go on", &automatic,
		{P, Q, .guest_gone = true, .ownership = OWN_ALONE}, ACT_CONTINUE},
	{"QEMU crashed and lost", &automatic, {P, Q, .guest_gone = true, .ownership = OWN_LOST},
		ACT_DESTROY},
	{"QEMU standby crashes", &automatic, {S, UP, Q, IMG, .guest_gone = true}, ACT_CONTINUE},
	{"QEMU standby gone and primary lost", &automatic,
		{S, Q, IMG, .guest_gone = true, .peer_suspected = true}, ACT_PROPOSE_SELF},

	/* in order */
	{"standby left", &automatic, {P, Q, .peer_left = true}, ACT_PROPOSE_SELF},
	{"primary left", &automatic, {S, UP, Q, IMG, .peer_left = true}, ACT_DESTROY},
	{"primary left, then silence", &automatic,
		{S, Q, IMG, .peer_left = true, .peer_suspected = true}, ACT_DESTROY},

	/* first image */
	{"image under way", &automatic, {S, UP, Q}, ACT_CONTINUE},
	{"image under way, connection lost", &automatic, {S, Q, .since_link_down = 1}, ACT_DESTROY},
	{"owner without an image", &automatic, {S, Q, .ownership = OWN_ALONE}, ACT_HOLD},
};

static void test_when_things_die(void **state)
{
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct decision d = decide(&rows[i].facts, rows[i].config);
		if (d.action != rows[i].expect)
			fail_msg("%s: %s (%s), expected %s", rows[i].event,
				decide_action_name(d.action), d.reason,
				decide_action_name(rows[i].expect));
		assert_true(d.reason && strlen(d.reason) > 8);
	}
}

static struct decide_facts facts_of(unsigned bits, unsigned own, unsigned since)
{
	static const uint64_t down[] = {1, HEAD_START - 1, HEAD_START, 10 * HEAD_START};
	struct decide_facts f = {
		.role = bits & 1 ? DECIDE_STANDBY : DECIDE_PRIMARY,
		.ownership = own,
		.link_up = bits & 2,
		.ack_overdue = bits & 4,
		.peer_suspected = bits & 8,
		.peer_left = bits & 16,
		.others_hear_peer = bits & 32,
		.image_complete = bits & 64,
		.quorate = bits & 128,
		.guest_gone = bits & 256,
	};
	f.since_link_down = f.link_up ? 0 : down[since];
	return f;
}

#define must(cond)                                                                                 \
	do {                                                                                       \
		if (!(cond))                                                                       \
			fail_msg("facts %03x own %u since %u auto %u: %s breaks: %s", bits, own,   \
				since, c->automatic, decide_action_name(a), #cond);                \
	} while (0)

static void test_properties_hold_for_all_facts(void **state)
{
	unsigned seen = 0, count = 0;
	for (unsigned bits = 0; bits < 512; bits++)
		for (unsigned own = 0; own < 4; own++)
			for (unsigned since = 0; since < 4; since++)
				for (const struct decide_config *c = &automatic; c;
					c = c == &automatic ? &manual : NULL) {
					struct decide_facts f = facts_of(bits, own, since);
					bool standby = f.role == DECIDE_STANDBY;
					enum decide_action a = decide(&f, c).action;
					seen |= 1u << a;
					count++;
					/* nothing becomes visible without a decided record */
					if (a == ACT_RELEASE)
						must(!standby && own == OWN_ALONE);
					if (a == ACT_ACTIVATE)
						must(standby && own == OWN_ALONE &&
							f.image_complete);
					/* nothing is destroyed that might be the only copy */
					if (a == ACT_DESTROY && own != OWN_LOST)
						must(standby && own == OWN_CURRENT &&
							(f.peer_left || !f.image_complete));
					if (own == OWN_LOST)
						must(a == ACT_DESTROY);
					/* the cluster gate */
					if (a == ACT_PROPOSE_SELF || a == ACT_HAND_OVER)
						must(f.quorate);
					/* what is begun is waited for */
					if (own == OWN_UNDECIDED)
						must(a == ACT_HOLD || a == ACT_HAND_OVER);
					if (own == OWN_ALONE)
						must(a != ACT_PROPOSE_SELF && a != ACT_DESTROY);
					/* a takeover needs a whole image, permission, and a reason
					 */
					if (standby && a == ACT_PROPOSE_SELF)
						must(f.image_complete && c->automatic &&
							!f.peer_left &&
							(!f.link_up || f.peer_suspected));
					if (a == ACT_WAIT)
						must(standby && f.since_link_down < HEAD_START &&
							(f.others_hear_peer || !f.peer_suspected));
					if (a == ACT_HAND_OVER)
						must(!standby && f.guest_gone);
					/* an unhealthy primary never goes on as if nothing were */
					if (!standby && own == OWN_CURRENT && a == ACT_CONTINUE)
						must(f.link_up && !f.ack_overdue &&
							!f.peer_suspected && !f.peer_left &&
							!f.guest_gone);
				}
	assert_int_equal(count, 512 * 4 * 4 * 2);
	assert_int_equal(seen, 0xff); /* every action is reachable */
}

static void test_actions_have_names(void **state)
{
	for (int a = ACT_CONTINUE; a <= ACT_WAIT; a++)
		assert_true(strlen(decide_action_name(a)) > 3);
	assert_string_equal(decide_action_name(99), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_when_things_die),
		cmocka_unit_test(test_properties_hold_for_all_facts),
		cmocka_unit_test(test_actions_have_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
