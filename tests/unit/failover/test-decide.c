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
#define UNNAMED    (15 * MC_SEC)
#define P          .role = DECIDE_PRIMARY
#define S          .role = DECIDE_STANDBY
#define Q          .quorate = true
#define END(e)     .end = END_##e
#define NAMED      .peer_named = true
#define LINK       .link_open = true, .data_flows = true
#define IMG        .image_complete = true
#define SUSPECTED  .peer_suspected = true
#define HEARD      .others_hear_peer = true
#define DOWN(ns)   .since_link_down = (ns)
#define OWN(o)     .ownership = OWN_##o

static const struct decide_config automatic = {
	.head_start = HEAD_START, .unnamed_wait = UNNAMED, .automatic = true};
static const struct decide_config manual = {
	.head_start = HEAD_START, .unnamed_wait = UNNAMED, .automatic = false};

struct row {
	const char *event;
	const struct decide_config *config;
	struct decide_facts facts;
	enum decide_action expect;
};

static const struct row rows[] = {
	{"primary, all well", &automatic, {P, Q, NAMED}, ACT_CONTINUE},
	{"standby, all well", &automatic, {S, Q, LINK, IMG}, ACT_CONTINUE},

	/* primary host lost */
	{"nobody hears the primary", &automatic, {S, Q, IMG, SUSPECTED, DOWN(1)}, ACT_PROPOSE_SELF},
	{"power-off: the connection looks up, all are silent", &automatic,
		{S, Q, LINK, IMG, SUSPECTED}, ACT_PROPOSE_SELF},
	{"asked, no outcome yet: asked again", &automatic, {S, Q, IMG, SUSPECTED, .proposed = true},
		ACT_PROPOSE_SELF},
	{"asked, no outcome, and not quorate any more", &automatic,
		{S, IMG, SUSPECTED, .proposed = true}, ACT_HOLD},
	{"asked, then the primary is heard again", &automatic,
		{S, Q, IMG, .proposed = true, DOWN(1)}, ACT_PROPOSE_SELF},
	{"won", &automatic, {S, Q, IMG, SUSPECTED, OWN(ALONE)}, ACT_ACTIVATE},
	{"won, then dropped from the quorum: it is decided", &automatic, {S, IMG, OWN(ALONE)},
		ACT_ACTIVATE},
	{"won, standby QEMU gone: restarted and activated", &automatic,
		{S, Q, IMG, .guest_gone = true, OWN(ALONE)}, ACT_ACTIVATE},
	{"lost", &automatic, {S, Q, IMG, SUSPECTED, OWN(LOST)}, ACT_DESTROY},
	{"failover = manual", &manual, {S, Q, IMG, SUSPECTED}, ACT_HOLD},
	{"failover = manual, and the operator's word", &manual,
		{S, Q, IMG, SUSPECTED, .operator_wants = true}, ACT_PROPOSE_SELF},
	{"standby not quorate", &automatic, {S, IMG, SUSPECTED}, ACT_HOLD},
	{"standby with half an image", &automatic, {S, Q, SUSPECTED}, ACT_DESTROY},

	/* standby host lost */
	{"connection lost", &automatic, {P, Q, NAMED, END(LINK)}, ACT_PROPOSE_SELF},
	{"standby silent", &automatic, {P, Q, NAMED, END(PEER_SILENT)}, ACT_PROPOSE_SELF},
	{"standby acknowledges nothing", &automatic, {P, Q, NAMED, END(ACK_OVERDUE)},
		ACT_PROPOSE_SELF},
	{"asked, no outcome yet: asked again", &automatic,
		{P, Q, NAMED, END(LINK), .proposed = true}, ACT_PROPOSE_SELF},
	{"won", &automatic, {P, Q, END(LINK), OWN(ALONE)}, ACT_RELEASE},
	{"won, while mcd ends: it is decided", &automatic,
		{P, Q, END(LINK), OWN(ALONE), .leaving = true}, ACT_RELEASE},
	{"lost", &automatic, {P, Q, END(LINK), OWN(LOST)}, ACT_DESTROY},
	{"also when failover is manual", &manual, {P, Q, NAMED, END(PEER_SILENT)},
		ACT_PROPOSE_SELF},

	/* this host failed the checkpoints */
	{"a step failed", &automatic, {P, Q, NAMED, END(FAULT)}, ACT_PROPOSE_SELF},
	{"the mirror of the disks broke", &automatic, {P, Q, NAMED, END(DISKS)}, ACT_PROPOSE_SELF},
	{"held output was lost", &automatic, {P, Q, NAMED, END(OUTPUT_LOST)}, ACT_PROPOSE_SELF},
	{"a step failed before the standby was named", &automatic, {P, Q, END(FAULT)},
		ACT_PROPOSE_SELF},
	{"a newer record is said to exist", &automatic, {P, Q, NAMED, END(RECORD)},
		ACT_PROPOSE_SELF},

	/* replication link only */
	{"standby: keep-alives still heard", &automatic, {S, Q, IMG, DOWN(1)}, ACT_WAIT},
	{"standby: only others hear it", &automatic,
		{S, Q, IMG, SUSPECTED, HEARD, DOWN(HEAD_START - 1)}, ACT_WAIT},
	{"standby: head start over", &automatic, {S, Q, IMG, HEARD, DOWN(HEAD_START)},
		ACT_PROPOSE_SELF},
	{"standby: head start over, suspected", &automatic,
		{S, Q, IMG, SUSPECTED, HEARD, DOWN(HEAD_START)}, ACT_PROPOSE_SELF},
	{"standby: keep-alives cut, data flows, others hear", &automatic,
		{S, Q, LINK, IMG, SUSPECTED, HEARD}, ACT_CONTINUE},
	{"standby: keep-alives cut, others hear, data has stopped", &automatic,
		{S, Q, .link_open = true, IMG, SUSPECTED, HEARD, DOWN(1)}, ACT_WAIT},
	{"standby: ... for longer than the head start", &automatic,
		{S, Q, .link_open = true, IMG, SUSPECTED, HEARD, DOWN(HEAD_START)},
		ACT_PROPOSE_SELF},
	{"standby: primary went on alone", &automatic, {S, Q, IMG, OWN(LOST), DOWN(1)},
		ACT_DESTROY},

	/* primary isolated */
	{"primary not quorate", &automatic, {P, NAMED, END(PEER_SILENT)}, ACT_HOLD},
	{"undecided and not quorate", &automatic, {P, NAMED, END(PEER_SILENT), .proposed = true},
		ACT_HOLD},
	{"learns that it lost, still not quorate", &automatic, {P, END(PEER_SILENT), OWN(LOST)},
		ACT_DESTROY},
	{"quorate again, nobody took over", &automatic, {P, Q, NAMED, END(PEER_SILENT)},
		ACT_PROPOSE_SELF},
	{"stopped by force meanwhile", &automatic,
		{P, NAMED, END(PEER_SILENT), .operator_stops = true}, ACT_DESTROY},

	/* guests */
	{"QEMU primary crashes", &automatic, {P, Q, NAMED, END(GUEST_GONE), .guest_gone = true},
		ACT_HAND_OVER},
	{"QEMU primary crashes, link down too", &automatic,
		{P, Q, NAMED, END(LINK), .guest_gone = true}, ACT_HAND_OVER},
	{"QEMU crashes before the standby is named", &automatic,
		{P, Q, END(GUEST_GONE), .guest_gone = true}, ACT_PROPOSE_SELF},
	{"QEMU crashes while undecided", &automatic,
		{P, Q, NAMED, END(LINK), .guest_gone = true, .proposed = true}, ACT_HAND_OVER},
	{"QEMU crashes, not quorate", &automatic, {P, NAMED, END(GUEST_GONE), .guest_gone = true},
		ACT_HOLD},
	{"QEMU crashes, nobody to go on", &automatic,
		{P, Q, END(GUEST_GONE), .guest_gone = true, OWN(ALONE)}, ACT_BURY},
	{"QEMU crashed, and it is handed over", &automatic,
		{P, Q, END(GUEST_GONE), .guest_gone = true, OWN(LOST)}, ACT_DESTROY},
	{"QEMU hangs", &automatic, {P, Q, NAMED, END(GUEST_HUNG)}, ACT_HAND_OVER},
	{"QEMU hangs, and it is asked again", &automatic,
		{P, Q, NAMED, END(GUEST_HUNG), .proposed = true}, ACT_HAND_OVER},
	{"QEMU hangs, not quorate", &automatic, {P, NAMED, END(GUEST_HUNG)}, ACT_HOLD},
	{"QEMU hangs before the standby is named", &automatic, {P, Q, END(GUEST_HUNG)},
		ACT_PROPOSE_SELF},
	{"QEMU hangs, nobody to go on", &automatic, {P, Q, END(GUEST_HUNG), OWN(ALONE)},
		ACT_RELEASE},
	{"QEMU hung, and it is handed over", &automatic, {P, Q, END(GUEST_HUNG), OWN(LOST)},
		ACT_DESTROY},
	{"QEMU standby crashes", &automatic, {S, Q, LINK, IMG, .guest_gone = true}, ACT_CONTINUE},
	{"QEMU standby gone and primary lost", &automatic,
		{S, Q, IMG, .guest_gone = true, SUSPECTED}, ACT_PROPOSE_SELF},
	{"the guest powered off", &automatic, {P, Q, NAMED, END(GUEST_OFF)}, ACT_PROPOSE_NONE},
	{"the guest powered off, and QEMU went too", &automatic,
		{P, Q, NAMED, END(GUEST_OFF), .guest_gone = true}, ACT_PROPOSE_NONE},
	{"a guest with disks powered off", &automatic,
		{P, Q, NAMED, END(GUEST_OFF), .keeps_disks = true}, ACT_PROPOSE_SELF},
	{"a guest with disks powered off, and it stays ours", &automatic,
		{P, Q, END(GUEST_OFF), .keeps_disks = true, OWN(ALONE)}, ACT_STOP},
	{"... and QEMU went too", &automatic,
		{P, Q, END(GUEST_OFF), .keeps_disks = true, .guest_gone = true, OWN(ALONE)},
		ACT_STOP},
	{"the guest powered off, and nobody owns it", &automatic,
		{P, Q, END(GUEST_OFF), OWN(NOBODY)}, ACT_STOP},
	{"stopped by somebody else's record", &automatic, {P, Q, END(LINK), OWN(NOBODY)},
		ACT_DESTROY},

	/* in order */
	{"unprotect", &automatic, {P, Q, NAMED, END(CALL)}, ACT_PROPOSE_SELF},
	{"primary left", &automatic, {S, Q, LINK, IMG, .peer_left = true}, ACT_DESTROY},
	{"primary left, then silence", &automatic, {S, Q, IMG, .peer_left = true, SUSPECTED},
		ACT_DESTROY},
	{"mcd of the primary ends", &automatic, {P, Q, NAMED, END(QUIT), .leaving = true},
		ACT_LEAVE},
	{"mcd of the standby ends", &automatic, {S, Q, LINK, IMG, .leaving = true}, ACT_LEAVE},

	/* mcd restarted */
	{"found running, and ours by our own disk", &automatic, {P, Q, END(RESTART)},
		ACT_PROPOSE_SELF},
	{"found running, and not ours by our own disk", &automatic,
		{P, Q, END(RESTART), OWN(UNKNOWN)}, ACT_LOOK},
	{"found running, and another's", &automatic, {P, Q, END(RESTART), OWN(LOST)}, ACT_DESTROY},
	{"a takeover was begun, the voters do not know of it", &automatic,
		{S, Q, IMG, .proposed = true, OWN(UNKNOWN)}, ACT_LOOK},
	{"a takeover was begun, and not decided", &automatic, {S, Q, IMG, .proposed = true},
		ACT_PROPOSE_SELF},

	/* first image */
	{"image under way", &automatic, {S, Q, LINK}, ACT_CONTINUE},
	{"image under way, connection lost", &automatic, {S, Q, DOWN(1)}, ACT_DESTROY},
	{"first epoch committed, connection lost before the vote was heard", &automatic,
		{S, Q, .naming_open = true, DOWN(1)}, ACT_WAIT},
	{"... and the primary offers another session", &automatic,
		{S, Q, .naming_open = true, .superseded = true, DOWN(1)}, ACT_DESTROY},
	{"... and it lives, and the voters know of nothing", &automatic,
		{S, Q, .naming_open = true, .answered = true, DOWN(UNNAMED + 1)}, ACT_DESTROY},
	{"... and it is silent", &automatic,
		{S, Q, .naming_open = true, .answered = true, SUSPECTED, DOWN(UNNAMED + 1)},
		ACT_WAIT},
	{"... and no voter answers", &automatic, {S, Q, .naming_open = true, DOWN(UNNAMED + 1)},
		ACT_WAIT},
	{"owner without an image", &automatic, {S, Q, OWN(ALONE)}, ACT_HOLD},
};

static void when_things_die(void **state)
{
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct decision d = decide(&rows[i].facts, rows[i].config);
		if (d.action != rows[i].expect)
			fail_msg("%s: %s (%s), expected %s", rows[i].event,
				decide_action_name(d.action), d.reason,
				decide_action_name(rows[i].expect));
		assert_true(d.reason && strlen(d.reason) > 6);
	}
}

#define must(cond)                                                                                 \
	do {                                                                                       \
		if (!(cond))                                                                       \
			fail_msg("role %d own %d end %d bits %x: %s breaks: %s", f->role,          \
				f->ownership, f->end, bits, decide_action_name(a), #cond);         \
	} while (0)

/* What holds for both roles. */
static void check_common(const struct decide_facts *f, enum decide_action a, unsigned bits)
{
	bool asks = a == ACT_PROPOSE_SELF || a == ACT_PROPOSE_NONE || a == ACT_HAND_OVER;
	/* the cluster gate, and no word to the voters once it is decided, or while mcd ends */
	if (asks)
		must(f->quorate && f->ownership == OWN_CURRENT && !f->leaving);
	if (f->ownership == OWN_LOST)
		must(a == ACT_DESTROY);
	if (f->ownership == OWN_ALONE)
		must(a != ACT_DESTROY);
	if (a == ACT_LOOK)
		must(f->ownership == OWN_UNKNOWN);
	if (a == ACT_LEAVE)
		must(f->leaving);
	if (f->leaving)
		must(!asks && a != ACT_LOOK && a != ACT_WAIT && a != ACT_HOLD && a != ACT_CONTINUE);
	/* what is begun is brought to its end: neither given up nor forgotten */
	if (f->proposed && f->ownership == OWN_CURRENT && !f->leaving && !f->operator_stops)
		must(asks || a == ACT_HOLD);
}

static void check_primary(const struct decide_facts *f, enum decide_action a, unsigned bits)
{
	/* nothing becomes visible without a decided record */
	if (a == ACT_RELEASE)
		must(f->ownership == OWN_ALONE && !f->guest_gone);
	must(a != ACT_ACTIVATE && a != ACT_WAIT);
	/* nothing is destroyed that might be the only copy, but by the operator's word */
	if (a == ACT_DESTROY)
		must(f->ownership == OWN_LOST || f->ownership == OWN_NOBODY || f->operator_stops);
	if (a == ACT_STOP)
		must((f->ownership == OWN_NOBODY || f->ownership == OWN_ALONE) &&
			f->end == END_GUEST_OFF);
	if (a == ACT_BURY)
		must(f->ownership == OWN_ALONE && f->guest_gone);
	if (a == ACT_HAND_OVER)
		must((f->guest_gone || f->end == END_GUEST_HUNG) && f->peer_named &&
			f->end != END_GUEST_OFF);
	if (a == ACT_PROPOSE_NONE)
		must(f->end == END_GUEST_OFF && !f->keeps_disks);
	/* a session that ended never goes on as if nothing were */
	if (a == ACT_CONTINUE)
		must(f->end == END_NONE && f->ownership == OWN_CURRENT && !f->proposed);
}

static void check_standby(const struct decide_facts *f, const struct decide_config *c,
	enum decide_action a, unsigned bits)
{
	must(a != ACT_RELEASE && a != ACT_HAND_OVER && a != ACT_PROPOSE_NONE && a != ACT_STOP &&
		a != ACT_BURY);
	if (a == ACT_ACTIVATE)
		must(f->ownership == OWN_ALONE && f->image_complete);
	/* an image is not thrown away that may be needed */
	if (a == ACT_DESTROY && f->ownership == OWN_CURRENT)
		must(!f->proposed && (f->peer_left || !f->image_complete));
	if (a == ACT_DESTROY && f->ownership == OWN_CURRENT && f->naming_open && !f->image_complete)
		must(f->peer_left || f->superseded ||
			(f->answered && !f->peer_suspected && f->since_link_down > UNNAMED));
	/* a takeover needs a whole image, permission, and a reason */
	if (a == ACT_PROPOSE_SELF && !f->proposed)
		must(f->image_complete && (c->automatic || f->operator_wants) && !f->peer_left &&
			!decide_link_up(f));
	if (a == ACT_WAIT && f->image_complete)
		must(f->since_link_down < HEAD_START &&
			(f->others_hear_peer || !f->peer_suspected));
	if (a == ACT_CONTINUE)
		must(f->link_open && !f->proposed && !f->peer_left);
}

static unsigned seen;

static void properties_hold_for_all_facts_of_a_primary(void **state)
{
	unsigned count = 0;
	for (unsigned own = 0; own < OWN_MAX; own++)
		for (unsigned end = 0; end < END_MAX; end++)
			for (unsigned bits = 0; bits < 128; bits++) {
				struct decide_facts facts = {P, .ownership = own, .end = end,
							    .proposed = bits & 1,
							    .quorate = bits & 2,
							    .leaving = bits & 4,
							    .guest_gone = bits & 8,
							    .peer_named = bits & 16,
							    .operator_stops = bits & 32,
							    .keeps_disks = bits & 64},
						    *f = &facts;
				enum decide_action a = decide(f, &automatic).action;
				seen |= 1u << a;
				count++;
				check_common(f, a, bits);
				check_primary(f, a, bits);
			}
	assert_int_equal(count, OWN_MAX * END_MAX * 128);
}

static struct decide_facts standby_facts(unsigned own, unsigned bits, uint64_t down)
{
	return (struct decide_facts){
		S,
		.ownership = own,
		.proposed = bits & 1,
		.quorate = bits & 2,
		.leaving = bits & 4,
		.guest_gone = bits & 8,
		.link_open = bits & 16,
		.data_flows = bits & 32,
		.peer_suspected = bits & 64,
		.others_hear_peer = bits & 128,
		.peer_left = bits & 256,
		.image_complete = bits & 512,
		.naming_open = bits & 1024,
		.superseded = bits & 2048,
		.answered = bits & 4096,
		.operator_wants = bits & 8192,
		.since_link_down = down,
	};
}

static void properties_hold_for_all_facts_of_a_standby(void **state)
{
	static const uint64_t down[] = {0, 1, HEAD_START - 1, HEAD_START, UNNAMED, UNNAMED + 1};
	unsigned count = 0;
	for (unsigned own = 0; own < OWN_MAX; own++)
		for (unsigned bits = 0; bits < 1u << 14; bits++)
			for (size_t i = 0; i < sizeof down / sizeof *down; i++)
				for (int k = 0; k < 2; k++) {
					const struct decide_config *c = k ? &manual : &automatic;
					struct decide_facts facts =
						standby_facts(own, bits, down[i]);
					enum decide_action a = decide(&facts, c).action;
					seen |= 1u << a;
					count++;
					check_common(&facts, a, bits);
					check_standby(&facts, c, a, bits);
				}
	assert_int_equal(count, OWN_MAX * (1u << 14) * 6 * 2);
	/* with the primary's: every action is reachable */
	assert_int_equal(seen, (1u << ACT_MAX) - 1);
}

static struct own_record record(uint64_t generation, const char *owner, const char *standby)
{
	struct own_record r = {.generation = generation};
	snprintf(r.owner, sizeof r.owner, "%s", owner);
	snprintf(r.standby, sizeof r.standby, "%s", standby);
	return r;
}

static void a_record_changes_a_part_from_its_generation_on(void **state)
{
	static const struct {
		uint64_t generation;
		const char *owner, *standby;
		enum decide_ownership us;
	} table[] = {
		{6, "B", "", OWN_CURRENT}, /* before our session: no news */
		{6, "", "", OWN_CURRENT},
		{7, "A", "B", OWN_CURRENT}, /* the session's own */
		{7, "B", "A", OWN_CURRENT},
		{8, "A", "", OWN_ALONE},
		{8, "B", "", OWN_LOST},
		{8, "B", "C", OWN_LOST},
		{8, "", "", OWN_NOBODY},
		{9, "A", "C", OWN_CURRENT},
	};
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		struct own_record r = record(table[i].generation, table[i].owner, table[i].standby);
		if (decide_ownership(&r, 7, "A") != table[i].us)
			fail_msg("row %zu: %d", i, decide_ownership(&r, 7, "A"));
	}
}

static void actions_and_ends_have_names(void **state)
{
	for (int a = 0; a < ACT_MAX; a++)
		assert_true(strlen(decide_action_name(a)) > 3);
	for (int e = 0; e < END_MAX; e++)
		assert_true(strlen(session_end_name(e)) > 3);
	assert_string_equal(decide_action_name(99), "?");
	assert_string_equal(session_end_name(99), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(when_things_die),
		cmocka_unit_test(properties_hold_for_all_facts_of_a_primary),
		cmocka_unit_test(properties_hold_for_all_facts_of_a_standby),
		cmocka_unit_test(a_record_changes_a_part_from_its_generation_on),
		cmocka_unit_test(actions_and_ends_have_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
