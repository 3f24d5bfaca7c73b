/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How a protection ends in order: by a verb, by the guest's own end, by a planned move. */
#include "common/log.h"
#include "mcd/vm/calls.h"
#include "mcd/vm/machine.h"
#include "mcd/vm/mailbox.h"
#include "tests/unit/primary/rig.h"

#include <errno.h>
#include <string.h>

#define LAST 3

static int verb, stuck; /* of the test that runs */
static enum world_vote how;

static void held(struct rig *r, const struct own_record *next)
{
	if (!next->standby[0] && stuck)
		rig_expect_held(r);
	if (next->standby[0] || verb == VM_FAILOVER)
		return;
	char note[RIG_NOTE];
	rig_settle(r);
	snprintf(note, sizeof note, "got DISCARD %d", (int)r->far.epoch);
	if (rig_index(r, note) >= 0)
		rig_breach(r, "the copy is given up before it is decided");
}

static void say_verb(struct rig *r, enum far_moment m, uint64_t epoch)
{
	if (m != FAR_COMMIT || epoch != LAST)
		return;
	world_votes(r->w, how, (unsigned)stuck);
	rig_verb(r, verb, false);
}

static void run(struct rig *r, int which, int n_stuck, enum world_vote how_stuck)
{
	verb = which;
	stuck = n_stuck;
	how = how_stuck;
	r->at = say_verb;
	r->at_vote = held;
	rig_protect(r);
}

static void rule_2_unprotect_asks_before_it_opens(void **state)
{
	struct rig *r = *state;
	run(r, VM_UNPROTECT, 3, WORLD_STUCK);
	rig_order(r, "release 3", "vote +2 {hostA, none}", "pass", NULL);
	rig_expect_alone(r);
	assert_string_equal(r->vm->want_peer, "");
}

static void failover_14_the_copy_is_given_up_after_the_vote(void **state)
{
	struct rig *r = *state;
	run(r, VM_UNPROTECT, 0, WORLD_WINS);
	assert_int_equal(rig_count(r, "vote +2 {hostA, none}"), 1);
	char note[RIG_NOTE];
	snprintf(note, sizeof note, "got DISCARD %d", (int)r->far.epoch);
	rig_order(r, "vote +2 {hostA, none}", note, NULL);
	rig_expect_alone(r);
}

/* hostB was faster than the verb. */
static void lose(struct rig *r, const struct own_record *next)
{
	struct own_record theirs = world_record(r->g0 + 2, "hostB", "");
	if (!next->standby[0])
		world_decide(r->w, &theirs);
}

static void failover_13_an_unprotect_that_lost_destroys_the_copy(void **state)
{
	struct rig *r = *state;
	verb = VM_UNPROTECT;
	stuck = 0;
	how = WORLD_WINS;
	r->at = say_verb;
	r->at_vote = lose;
	rig_protect(r);
	char note[RIG_NOTE];
	snprintf(note, sizeof note, "got DISCARD %d", (int)r->far.epoch);
	assert_int_equal(rig_index(r, note), -1); /* it is the only one */
	assert_int_equal(rig_count(r, "pass"), 0);
	rig_expect_gone(r);
}

static void stop_is_left_to_the_unprotected_vm(void **state)
{
	struct rig *r = *state;
	run(r, VM_STOP, 0, WORLD_WINS);
	rig_expect_alone(r);
	struct vm_call *c = vm_next_call(r->vm);
	assert_non_null(c);
	assert_int_equal(c->verb, VM_STOP);
	vm_call_ok(c, NULL);
}

/* --- the guest ends
 * --------------------------------------------------------------------------------- */

static void die(struct rig *r, enum far_moment m, uint64_t epoch)
{
	if (m == FAR_COMMIT && epoch == (uint64_t)r->arg)
		fake_guest_die(r->guest);
}

static void shut_before(struct rig *r, const struct own_record *next)
{
	if (!strcmp(next->owner, "hostB") && rig_index(r, "shut") < 0)
		rig_breach(r, "the network is open while the standby is made owner");
}

static void failover_11_a_dead_qemu_is_handed_over(void **state)
{
	struct rig *r = *state;
	r->at = die;
	r->at_vote = shut_before;
	r->arg = LAST;
	rig_protect(r);
	rig_order(r, "release 2", "shut", "vote +2 {hostB, none}", NULL);
	assert_true(rig_index(r, "got HANDOVER 3") >= 0 || rig_index(r, "got HANDOVER 2") >= 0);
	assert_int_equal(rig_count(r, "pass"), 0);
	rig_expect_decided(r, 2, "hostB", "");
	rig_expect_end(r, "guest-gone");
	rig_expect_gone(r);
}

/* --- QEMU hangs: it is there, and answers nothing --------------------------------------------- */

static void hang(struct rig *r, enum fake_guest_op op)
{
	if ((int)op != r->arg || rig_index(r, "release 2") < 0)
		return;
	r->at_guest = NULL;
	fake_guest_fail(r->guest, op, 0, ETIMEDOUT);
	fake_guest_fail(r->guest, FAKE_GUEST_PING, 0, ETIMEDOUT);
}

/* The standby is good, and QEMU is not: it is no standby that acknowledges nothing. */
static void hangs_at(struct rig *r, enum fake_guest_op op)
{
	r->at_guest = hang;
	r->at_vote = shut_before;
	r->arg = (int)op;
	rig_protect(r);
	rig_order(r, "release 2", "shut", "vote +2 {hostB, none}", NULL);
	assert_int_equal(rig_count(r, "vote +2 {hostA, none}"), 0);
	assert_int_equal(rig_count(r, "pass"), 0);
	rig_expect_decided(r, 2, "hostB", "");
	rig_expect_end(r, "guest-hung");
	rig_expect_gone(r);
}

static void failover_11_a_qemu_that_does_not_stop_is_handed_over(void **state)
{
	hangs_at(*state, FAKE_GUEST_PAUSE);
}

static void failover_11_a_qemu_that_does_not_save_is_handed_over(void **state)
{
	hangs_at(*state, FAKE_GUEST_SAVE);
}

static void failover_11_a_qemu_that_does_not_run_on_is_handed_over(void **state)
{
	hangs_at(*state, FAKE_GUEST_CONT);
}

static void failover_11_a_qemu_that_is_not_inspected_is_handed_over(void **state)
{
	hangs_at(*state, FAKE_GUEST_INVENTORY);
}

/* It was only slow: its guest is good, and goes on. */
static void slow(struct rig *r, enum fake_guest_op op)
{
	if (op != FAKE_GUEST_SAVE || rig_index(r, "release 2") < 0)
		return;
	r->at_guest = NULL;
	fake_guest_fail(r->guest, op, 0, ETIMEDOUT);
}

static void failover_11_a_qemu_that_answers_again_is_not_given_away(void **state)
{
	struct rig *r = *state;
	r->at_guest = slow;
	rig_protect(r);
	assert_int_equal(rig_count(r, "vote +2 {hostB, none}"), 0);
	rig_expect_end(r, "fault");
	rig_expect_alone(r);
}

/* The only image there is: it is kept, and runs on when it answers. */
static void hang_in_the_first(struct rig *r, enum fake_guest_op op)
{
	if (op != FAKE_GUEST_SAVE)
		return;
	r->at_guest = NULL;
	fake_guest_fail(r->guest, op, 0, ETIMEDOUT);
	fake_guest_fail(r->guest, FAKE_GUEST_PING, 0, ETIMEDOUT);
}

static void failover_8_a_hung_qemu_without_a_named_standby_is_kept(void **state)
{
	struct rig *r = *state;
	r->at_guest = hang_in_the_first;
	rig_protect(r);
	rig_expect_end(r, "guest-hung");
	rig_expect_decided(r, 1, "hostA", "");
	assert_true(r->vm->guest && guest_alive(r->vm->guest));
	vm_resume(r->vm);
	rig_expect_alone(r);
}

/* hostB is not named yet, and may have nothing: nobody goes on. */
static void failover_8_who_is_not_named_is_not_made_owner(void **state)
{
	struct rig *r = *state;
	r->at = die;
	r->arg = 1;
	rig_protect(r);
	rig_order(r, "got COMMIT 1", "vote +1 {hostA, none}", NULL);
	assert_int_equal(rig_count(r, "vote +1 {hostA, hostB}"), 0);
	assert_int_equal(rig_count(r, "pass"), 0);
	assert_int_equal(vm_get_state(r->vm), VM_FAILED);
	assert_null(r->vm->guest);
	rig_judge(r);
}

static void power_off(struct rig *r, enum far_moment m, uint64_t epoch)
{
	if (m != FAR_COMMIT || epoch != LAST)
		return;
	rig_say(r); /* its last word */
	fake_guest_happens(r->guest, GUEST_EVENT_SHUTDOWN);
	vm_ring(r->vm, WAKE_SUSPECT);
	world_votes(r->w, how, (unsigned)stuck);
}

static void powers_off(struct rig *r)
{
	char note[RIG_NOTE];
	verb = VM_STOP; /* none */
	r->at = power_off;
	r->at_vote = held;
	rig_protect(r);
	snprintf(note, sizeof note, "ack %d", (int)r->far.epoch);
	rig_order(r, "ack 3", note, "vote +2 {none, none}", NULL);
	snprintf(note, sizeof note, "got DISCARD %d", (int)r->far.epoch);
	rig_order(r, "vote +2 {none, none}", note, NULL);
	assert_int_equal(r->far.flags, WIRE_GUEST_OFF);
	assert_int_equal(r->out, r->said); /* its last words are out, acknowledged */
	assert_int_equal(rig_count(r, "pass"), 0);
	rig_expect_decided(r, 2, "", "");
	rig_expect_end(r, "guest-off");
	assert_int_equal(vm_get_state(r->vm), VM_STOPPED);
	rig_expect_gone(r);
}

static void rule_1_a_guest_that_powers_off_has_its_last_words_acknowledged(void **state)
{
	stuck = 0;
	how = WORLD_WINS;
	powers_off(*state);
}

static void failover_15_a_power_off_is_decided_before_the_copy_is_given_up(void **state)
{
	stuck = 3;
	how = WORLD_STUCK;
	powers_off(*state);
}

/* --- a planned move
 * ---------------------------------------------------------------------------------- */

static void rule_3_a_move_gives_away_what_the_guest_was_last(void **state)
{
	struct rig *r = *state;
	char commit[RIG_NOTE], ack[RIG_NOTE], handover[RIG_NOTE];
	run(r, VM_FAILOVER, 0, WORLD_WINS);
	int n = (int)r->far.epoch;
	snprintf(commit, sizeof commit, "got COMMIT %d", n);
	snprintf(ack, sizeof ack, "ack %d", n);
	snprintf(handover, sizeof handover, "got HANDOVER %d", n);
	rig_order(
		r, "release 3", commit, ack, handover, "vote +2 {hostB, none}", "guest kill", NULL);
	/* It did not run after it: all it ever wrote and said is there. */
	uint64_t size;
	const uint8_t *ram = fake_guest_ram(r->guest, 0, &size);
	assert_memory_equal(r->far.image[0], ram, size);
	assert_int_equal(r->out, r->said);
	assert_int_equal(r->acked, r->said);
	assert_int_equal(rig_count(r, "pass"), 0);
	rig_expect_decided(r, 2, "hostB", "");
	rig_expect_gone(r);
}

static void refuse_to_keep(struct rig *r, enum far_moment m, uint64_t epoch)
{
	say_verb(r, m, epoch);
	r->far.hang_up = m == FAR_HANDOVER;
}

static void rule_2_a_move_that_is_not_taken_asks_for_the_vm(void **state)
{
	struct rig *r = *state;
	verb = VM_FAILOVER;
	stuck = 3;
	how = WORLD_STUCK;
	r->at = refuse_to_keep;
	r->at_vote = held;
	rig_protect(r);
	assert_int_equal(rig_count(r, "vote +2 {hostB, none}"), 0);
	assert_int_equal(rig_count(r, "vote +2 {hostA, none}"), 4);
	rig_expect_end(r, "link");
	rig_expect_alone(r);
}

static void failover_15_a_move_that_is_not_decided_is_decided_by_the_voters(void **state)
{
	struct rig *r = *state;
	run(r, VM_FAILOVER, 1, WORLD_UNHEARD);
	/* hostB has it, though this host did not hear it when it asked for that. */
	rig_order(r, "vote +2 {hostB, none}", "vote +2 {hostA, none}", "guest kill", NULL);
	assert_int_equal(rig_count(r, "pass"), 0);
	rig_expect_decided(r, 2, "hostB", "");
	rig_expect_gone(r);
}

static void failover_15_a_move_that_came_to_nothing_goes_on_here(void **state)
{
	struct rig *r = *state;
	run(r, VM_FAILOVER, 3, WORLD_STUCK);
	assert_int_equal(rig_count(r, "vote +2 {hostB, none}"), 1);
	assert_int_equal(rig_count(r, "vote +2 {hostA, none}"), 3);
	rig_expect_alone(r);
}

static const struct CMUnitTest tests[] = {
	rig_test(rule_2_unprotect_asks_before_it_opens),
	rig_test(failover_14_the_copy_is_given_up_after_the_vote),
	rig_test(failover_13_an_unprotect_that_lost_destroys_the_copy),
	rig_test(stop_is_left_to_the_unprotected_vm),
	rig_test(failover_11_a_dead_qemu_is_handed_over),
	rig_test(failover_11_a_qemu_that_does_not_stop_is_handed_over),
	rig_test(failover_11_a_qemu_that_does_not_save_is_handed_over),
	rig_test(failover_11_a_qemu_that_does_not_run_on_is_handed_over),
	rig_test(failover_11_a_qemu_that_is_not_inspected_is_handed_over),
	rig_test(failover_11_a_qemu_that_answers_again_is_not_given_away),
	rig_test(failover_8_a_hung_qemu_without_a_named_standby_is_kept),
	rig_test(failover_8_who_is_not_named_is_not_made_owner),
	rig_test(rule_1_a_guest_that_powers_off_has_its_last_words_acknowledged),
	rig_test(failover_15_a_power_off_is_decided_before_the_copy_is_given_up),
	rig_test(rule_3_a_move_gives_away_what_the_guest_was_last),
	rig_test(rule_2_a_move_that_is_not_taken_asks_for_the_vm),
	rig_test(failover_15_a_move_that_is_not_decided_is_decided_by_the_voters),
	rig_test(failover_15_a_move_that_came_to_nothing_goes_on_here),
};

rig_main(tests)
