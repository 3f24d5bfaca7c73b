/* SPDX-License-Identifier: GPL-2.0-or-later */
/* failover/README.md 11 to 15, the primary's half: between the end of a protection and the
 * decision. */
#include "common/log.h"
#include "mcd/vm/mailbox.h"
#include "mcd/vm/owner.h"
#include "tests/unit/primary/rig.h"

#include <time.h>

#define LAST 3

static void hang_up(struct rig *r, enum far_moment m, uint64_t epoch)
{
	r->far.hang_up = m == FAR_COMMIT && epoch == LAST;
}

static void held(struct rig *r, const struct own_record *next)
{
	if (!next->standby[0])
		rig_expect_held(r);
}

static void hang_up_stuck(struct rig *r, enum far_moment m, uint64_t epoch)
{
	hang_up(r, m, epoch);
	if (r->far.hang_up)
		rig_stick(r, 5);
}

static void failover_11_all_that_is_not_acknowledged_is_held_until_decided(void **state)
{
	struct rig *r = *state;
	r->at = hang_up_stuck;
	r->at_vote = held;
	rig_protect(r);
	rig_order(r, "hold 1", "vote +1 {hostA, hostB}", "release 2", "got COMMIT 3",
		"vote +2 {hostA, none}", "pass", NULL);
	assert_int_equal(rig_index(r, "release 3"), -1);
	assert_int_equal(rig_count(r, "vote +2 {hostA, none}"), 6);
	rig_expect_alone(r);
}

/* A standby that lives hears at once that it is over, and an ACK of it cannot come any more. */
static void given_up(struct rig *r, const struct own_record *next)
{
	if (!next->standby[0] && !rig_wait(r, "link ended"))
		rig_breach(r, "the stream is still there while the voters are asked");
}

static void suspect(struct rig *r, enum far_moment m, uint64_t epoch)
{
	if (m != FAR_COMMIT || epoch != LAST)
		return;
	r->far.silent = true;
	world_suspect(r->w, "hostB", true);
	vm_ring(r->vm, WAKE_SUSPECT);
}

static void failover_11_the_stream_is_given_up_before_the_vote(void **state)
{
	struct rig *r = *state;
	r->at = suspect;
	r->at_vote = given_up;
	rig_protect(r);
	rig_expect_end(r, "peer-silent");
	assert_int_equal(rig_index(r, "release 3"), -1);
	rig_expect_alone(r);
}

/* --- lost
 * ------------------------------------------------------------------------------------------ */

/* hostB was faster. */
static void lose(struct rig *r, const struct own_record *next)
{
	struct own_record theirs = world_record(r->g0 + 2, "hostB", "");
	if (!next->standby[0])
		world_decide(r->w, &theirs);
}

static void failover_13_who_lost_destroys_its_copy(void **state)
{
	struct rig *r = *state;
	r->at = hang_up;
	r->at_vote = lose;
	rig_protect(r);
	rig_order(r, "release 2", "vote +2 {hostA, none}", "shut", "guest kill", NULL);
	assert_int_equal(rig_count(r, "pass"), 0);
	assert_int_equal(world_emitted(r->w, "DISCARDED"), 1);
	rig_expect_gone(r);
}

/* ... and it is told of it while it asks. */
static void lose_aloud(struct rig *r, const struct own_record *next)
{
	struct own_record theirs = world_record(r->g0 + 2, "hostB", "");
	if (next->standby[0] || r->arg++)
		return;
	world_decide(r->w, &theirs);
	world_votes(r->w, WORLD_STUCK, 1);
	vm_learned(r->vm, &theirs);
}

static void failover_13_who_hears_that_it_lost_asks_no_more(void **state)
{
	struct rig *r = *state;
	r->at = hang_up;
	r->at_vote = lose_aloud;
	rig_protect(r);
	assert_int_equal(rig_count(r, "vote +2 {hostA, none}"), 1);
	assert_int_equal(rig_count(r, "pass"), 0);
	rig_expect_gone(r);
}

/* --- won, and not heard
 * ---------------------------------------------------------------------------- */

static void hang_up_unheard(struct rig *r, enum far_moment m, uint64_t epoch)
{
	hang_up(r, m, epoch);
	if (r->far.hang_up)
		world_votes(r->w, WORLD_UNHEARD, 1);
}

static void failover_14_output_leaves_only_after_self_alone_is_decided(void **state)
{
	struct rig *r = *state;
	r->at = hang_up_unheard;
	r->at_vote = held;
	rig_protect(r);
	/* It is decided after the first, but known after the second. */
	assert_int_equal(rig_count(r, "vote +2 {hostA, none}"), 2);
	rig_order(r, "vote +2 {hostA, none}", "pass", NULL);
	rig_expect_decided(r, 2, "hostA", "");
	rig_expect_alone(r);
}

static void failover_15_an_undecided_outcome_permits_nothing(void **state)
{
	struct rig *r = *state;
	struct own_record asked[16];
	r->at = hang_up_stuck;
	r->at_vote = held;
	rig_protect(r);
	size_t n = world_proposals(r->w, asked, 16);
	assert_int_equal(n, 7);
	/* The same generation is brought to its end, with the same value. */
	for (size_t i = 1; i < n; i++) {
		assert_int_equal(asked[i].generation, r->g0 + 2);
		assert_string_equal(asked[i].owner, "hostA");
		assert_string_equal(asked[i].standby, "");
	}
	rig_expect_alone(r);
}

/* The link comes back, hostB is heard again: what was asked for may be decided all the same. */
static void hear_it_again(struct rig *r, const struct own_record *next)
{
	held(r, next);
	if (!next->standby[0] && r->arg++ == 1)
		world_suspect(r->w, "hostB", false);
}

static void failover_15_who_asked_does_not_go_back(void **state)
{
	struct rig *r = *state;
	r->at = suspect;
	r->at_vote = hear_it_again;
	rig_protect(r);
	rig_expect_decided(r, 2, "hostA", "");
	rig_expect_alone(r);
}

/* {hostA, hostB} got through, but nobody said so. */
static void unheard_naming(struct rig *r, enum far_moment m, uint64_t epoch)
{
	if (m == FAR_COMMIT && epoch == 1)
		world_votes(r->w, WORLD_UNHEARD, 1);
}

static void failover_15_it_goes_on_from_its_own_vote_that_got_through(void **state)
{
	struct rig *r = *state;
	r->at = unheard_naming;
	r->at_vote = held;
	rig_protect(r);
	rig_order(r, "vote +1 {hostA, hostB}", "vote +2 {hostA, none}", "pass", NULL);
	assert_int_equal(rig_count(r, "vote +1 {hostA, none}"), 0);
	rig_expect_alone(r);
}

/* --- not in the quorate part
 * ------------------------------------------------------------------------ */

/* Its stream is closed by this host, once it asks. */
static void cut_off(struct rig *r, enum far_moment m, uint64_t epoch)
{
	if (m == FAR_COMMIT && epoch == LAST)
		world_set_quorate(r->w, false);
	suspect(r, m, epoch);
	if (m != FAR_END)
		return;
	for (int i = 0; i < 500 && !world_emitted(r->w, "ALARM"); i++)
		nanosleep(&(struct timespec){0, 1000000}, NULL);
	rig_note(r, "quorate");
	world_set_quorate(r->w, true);
	vm_ring(r->vm, WAKE_SUSPECT);
}

static void failover_15_cut_off_from_the_quorum_it_holds(void **state)
{
	struct rig *r = *state;
	r->at = cut_off;
	r->at_vote = held;
	rig_protect(r);
	rig_order(r, "link ended", "quorate", "vote +2 {hostA, none}", "pass", NULL);
	rig_expect_alone(r);
}

/* --- the operator
 * ----------------------------------------------------------------------------------- */

static void stop_by_force(struct rig *r, const struct own_record *next)
{
	held(r, next);
	if (!next->standby[0] && r->arg++ == 2)
		rig_verb(r, VM_STOP, true);
}

static void hang_up_for_good(struct rig *r, enum far_moment m, uint64_t epoch)
{
	hang_up(r, m, epoch);
	if (r->far.hang_up)
		rig_stick(r, 100);
}

static void failover_15_the_operator_stops_what_is_undecided(void **state)
{
	struct rig *r = *state;
	r->at = hang_up_for_good;
	r->at_vote = stop_by_force;
	rig_protect(r);
	assert_int_equal(rig_count(r, "vote +2 {hostA, none}"), 3);
	assert_int_equal(rig_count(r, "pass"), 0);
	rig_expect_decided(r, 1, "hostA", "hostB");
	rig_expect_gone(r);
}

/* Without --force neither does anything. */
static void ask_politely(struct rig *r, const struct own_record *next)
{
	held(r, next);
	if (!next->standby[0] && r->arg++ == 1) {
		rig_verb(r, VM_STOP, false);
		rig_verb(r, VM_TAKEOVER, false);
	}
}

static void failover_15_without_force_the_operator_decides_nothing(void **state)
{
	struct rig *r = *state;
	r->at = hang_up_stuck;
	r->at_vote = ask_politely;
	rig_protect(r);
	assert_int_equal(rig_count(r, "vote +2 {hostA, none}"), 6);
	assert_int_equal(world_emitted(r->w, "FORCED"), 0);
	rig_expect_alone(r);
}

static void take_by_force(struct rig *r, const struct own_record *next)
{
	held(r, next);
	if (!next->standby[0] && r->arg++ == 2)
		rig_verb(r, VM_TAKEOVER, true);
}

static void failover_14_the_operators_word_replaces_a_majority(void **state)
{
	struct rig *r = *state;
	r->at = hang_up_for_good;
	r->at_vote = take_by_force;
	rig_protect(r);
	assert_int_equal(rig_count(r, "vote +2 {hostA, none}"), 3);
	assert_int_equal(world_emitted(r->w, "FORCED"), 1);
	rig_expect_decided(r, 2, "hostA", "");
	rig_expect_alone(r);
}

static const struct CMUnitTest tests[] = {
	rig_test(failover_11_all_that_is_not_acknowledged_is_held_until_decided),
	rig_test(failover_11_the_stream_is_given_up_before_the_vote),
	rig_test(failover_13_who_lost_destroys_its_copy),
	rig_test(failover_13_who_hears_that_it_lost_asks_no_more),
	rig_test(failover_14_output_leaves_only_after_self_alone_is_decided),
	rig_test(failover_14_the_operators_word_replaces_a_majority),
	rig_test(failover_15_an_undecided_outcome_permits_nothing),
	rig_test(failover_15_who_asked_does_not_go_back),
	rig_test(failover_15_it_goes_on_from_its_own_vote_that_got_through),
	rig_test(failover_15_cut_off_from_the_quorum_it_holds),
	rig_test(failover_15_the_operator_stops_what_is_undecided),
	rig_test(failover_15_without_force_the_operator_decides_nothing),
};

rig_main(tests)
