/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mcd/README.md 6 and 10, failover/README.md 16: mcd ends at any moment, and comes back.  Here
 * the VM has its own thread, which lives the whole life (life/life.c).
 */
#include "common/clock.h"
#include "common/log.h"
#include "mcd/life/life.h"
#include "mcd/vm/mailbox.h"
#include "mcd/vm/make.h"
#include "mcd/vm/owner.h"
#include "tests/unit/primary/rig.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LAST 3

/* --- a life
 * ------------------------------------------------------------------------------------------ */

static bool wait_for(struct rig *r, enum vm_state s)
{
	for (int i = 0; i < 5000 && vm_get_state(r->vm) != s; i++)
		nanosleep(&(struct timespec){0, 1000000}, NULL);
	return vm_get_state(r->vm) == s;
}

/* Lives only once r->vm is known, to those who ring it. */
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

static void *live(void *vm)
{
	pthread_mutex_lock(&gate);
	pthread_mutex_unlock(&gate);
	return life_run(vm);
}

static void begin(struct rig *r)
{
	struct mc_error err = MC_ERROR_INIT;
	pthread_mutex_lock(&gate);
	int e = vm_new(world_env(r->w), "vm1", live, &r->vm, &err);
	pthread_mutex_unlock(&gate);
	if (e < 0)
		fail_msg("%s", err.msg);
}

/* mcd ends. */
static void end(struct rig *r)
{
	vm_free(r->vm);
	r->vm = NULL;
}

static struct rig *started(void)
{
	struct rig *r = rig_new(&(struct rig_options){.no_vm = true});
	begin(r);
	rig_verb(r, VM_START, false);
	assert_true(wait_for(r, VM_UNPROTECTED));
	rig_adopt(r);
	return r;
}

static void protect(struct rig *r)
{
	struct vm_call *c = calloc(1, sizeof *c);
	assert_non_null(c);
	c->verb = VM_PROTECT;
	strcpy(c->peer, "hostB");
	rig_give_stream(r);
	vm_call(r->vm, c);
}

/* --- 6: it ends
 * ---------------------------------------------------------------------------------------- */

static enum far_moment moment;
static uint64_t when;

static void quit_then(struct rig *r, enum far_moment m, uint64_t epoch)
{
	if (m == moment && epoch == when)
		vm_ring(r->vm, WAKE_QUIT);
}

static void quits(enum far_moment m, uint64_t epoch)
{
	struct rig *r = started();
	moment = m;
	when = epoch;
	r->at = quit_then;
	protect(r);
	assert_true(rig_wait(r, "link ended"));
	end(r);
	rig_judge(r);
	/* Neither killed nor left stopped, and what was held is not out. */
	assert_true(guest_alive(r->guest));
	assert_true(fake_guest_runs(r->guest));
	assert_int_equal(r->held, m != FAR_HELLO && m != FAR_SYNC_END); /* that is where it ended */
	if (r->held) {
		assert_int_equal(rig_count(r, "pass"), 1); /* when it was started */
		assert_true(r->out <= r->acked);
	}
	rig_free(r);
}

static void rule_6_mcd_ends_while_it_connects(void **state)
{
	quits(FAR_HELLO, 0);
}

static void rule_6_mcd_ends_while_memory_is_copied(void **state)
{
	quits(FAR_SYNC_END, 0);
}

static void rule_6_mcd_ends_in_the_first_epoch(void **state)
{
	quits(FAR_COMMIT, 1);
}

static void rule_6_mcd_ends_as_the_protection_begins(void **state)
{
	quits(FAR_PROTECTED, 1);
}

static void rule_6_mcd_ends_before_an_ack(void **state)
{
	quits(FAR_COMMIT, LAST);
}

static void rule_6_mcd_ends_after_an_ack(void **state)
{
	quits(FAR_ACKED, LAST);
}

/* At each thing that is asked of QEMU in an epoch. */
static enum fake_guest_op asked_for;

static void quit_at_op(struct rig *r, enum fake_guest_op op)
{
	if (op == asked_for && rig_index(r, "release 3") >= 0)
		vm_ring(r->vm, WAKE_QUIT);
}

static void rule_6_mcd_ends_in_any_step_of_an_epoch(void **state)
{
	static const enum fake_guest_op ops[] = {FAKE_GUEST_PAUSE, FAKE_GUEST_SAVE,
		FAKE_GUEST_COLLECT, FAKE_GUEST_CONT, FAKE_GUEST_STOOD_STILL, FAKE_GUEST_INVENTORY};
	for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
		struct rig *r = started();
		asked_for = ops[i];
		r->at_guest = quit_at_op;
		protect(r);
		assert_true(rig_wait(r, "link ended"));
		end(r);
		rig_judge(r);
		assert_true(guest_alive(r->guest));
		assert_true(fake_guest_runs(r->guest));
		assert_int_equal(rig_count(r, "pass"), 1);
		rig_free(r);
	}
}

/* In the middle of asking for the VM: it stands there, and must not stay so. */
static void stuck_and_quit(struct rig *r, enum far_moment m, uint64_t epoch)
{
	r->far.hang_up = m == FAR_COMMIT && epoch == LAST;
	if (r->far.hang_up)
		rig_stick(r, 100);
}

static void quit_at_vote(struct rig *r, const struct own_record *next)
{
	if (!next->standby[0] && next->generation > r->g0 + 1 && r->arg++ == 1)
		vm_ring(r->vm, WAKE_QUIT);
}

static void rule_6_mcd_ends_while_it_asks_for_the_vm(void **state)
{
	struct rig *r = started();
	r->at = stuck_and_quit;
	r->at_vote = quit_at_vote;
	protect(r);
	assert_true(rig_wait(r, "guest free"));
	end(r);
	rig_judge(r);
	assert_true(guest_alive(r->guest));
	assert_true(fake_guest_runs(r->guest));
	assert_int_equal(rig_count(r, "pass"), 1);
	assert_true(r->out <= r->acked);
	rig_free(r);
}

/* --- failover 16: it comes back
 * ------------------------------------------------------------------------ */

/* The mcd before: protected with hostB, and gone after an ACK. */
static struct rig *left_behind(void)
{
	struct rig *r = started();
	moment = FAR_ACKED;
	when = LAST;
	r->at = quit_then;
	protect(r);
	assert_true(rig_wait(r, "guest free"));
	end(r);
	rig_expect_decided(r, 1, "hostA", "hostB");
	rig_judge(r);
	rig_again(r);
	r->at = NULL;
	r->held = true; /* from the first moment nothing is to pass that was not decided anew */
	return r;
}

static void know(struct rig *r, uint64_t generation, const char *owner, const char *standby)
{
	struct own_record rec = world_record(generation, owner, standby);
	world_know(r->w, &rec);
}

static void decided(struct rig *r, uint64_t generation, const char *owner, const char *standby)
{
	struct own_record rec = world_record(generation, owner, standby);
	world_decide(r->w, &rec);
}

static void stands(struct rig *r, const struct own_record *next)
{
	if (fake_guest_runs(r->guest))
		rig_breach(r, "the guest runs, and whose it is is not known");
	if (rig_count(r, "pass"))
		rig_breach(r, "the network is open, and whose it is is not known");
}

static void goes_on(struct rig *r, uint64_t votes)
{
	assert_true(wait_for(r, VM_UNPROTECTED));
	rig_adopt(r);
	rig_judge(r);
	assert_int_equal(world_emitted(r->w, "VOTE_STARTED"), votes);
	assert_true(rig_wait(r, "pass"));
	assert_true(fake_guest_runs(r->guest));
	end(r);
	rig_free(r);
}

static void is_destroyed(struct rig *r)
{
	assert_true(rig_wait(r, "guest free"));
	assert_true(wait_for(r, VM_STOPPED));
	rig_judge(r);
	assert_int_equal(rig_count(r, "pass"), 0);
	assert_false(guest_alive(r->guest));
	end(r);
	rig_free(r);
}

#define BEFORE 2 /* votes of the mcd before: start, protect */

static void failover_16_a_restarted_mcd_asks_before_anything_passes(void **state)
{
	struct rig *r = left_behind();
	know(r, r->g0, "hostA", "hostB");
	rig_stick(r, 4);
	r->at_vote = stands;
	begin(r);
	goes_on(r, BEFORE + 5);
}

static void failover_16_whatever_its_own_disk_says(void **state)
{
	struct rig *r = left_behind();
	decided(r, r->g0 + 1, "hostA", "");
	know(r, r->g0 + 1, "hostA", ""); /* sole owner, as far as it knows */
	r->at_vote = stands;
	begin(r);
	goes_on(r, BEFORE + 1);
}

/* The answer to its vote was lost: that it is decided is not enough, it asks once more. */
static void failover_16_an_answer_that_is_not_heard_is_none(void **state)
{
	struct rig *r = left_behind();
	know(r, r->g0, "hostA", "hostB");
	world_votes(r->w, WORLD_UNHEARD, 1);
	r->at_vote = stands;
	begin(r);
	goes_on(r, BEFORE + 3);
}

static void failover_16_a_newer_record_of_others_destroys_the_copy(void **state)
{
	struct rig *r = left_behind();
	know(r, r->g0, "hostA", "hostB");
	decided(r, r->g0 + 1, "hostB", "");
	r->at_vote = stands;
	begin(r);
	is_destroyed(r);
}

static void failover_16_its_disk_knows_of_the_new_owner(void **state)
{
	struct rig *r = left_behind();
	decided(r, r->g0 + 2, "hostB", "hostC");
	know(r, r->g0 + 1, "hostB", "");
	r->at_vote = stands;
	begin(r);
	is_destroyed(r);
}

/* What its disk says of others is no majority's word: it waits for that. */
static void failover_16_without_a_majority_it_waits(void **state)
{
	struct rig *r = left_behind();
	decided(r, r->g0 + 1, "hostB", "");
	know(r, r->g0 + 1, "hostB", "");
	world_set_reachable(r->w, 1);
	begin(r);
	for (int i = 0; i < 1000 && !world_emitted(r->w, "ALARM"); i++)
		nanosleep(&(struct timespec){0, 1000000}, NULL);
	assert_int_equal(vm_get_state(r->vm), VM_HOLDING);
	assert_true(guest_alive(r->guest));
	stands(r, NULL);
	rig_judge(r);
	world_set_reachable(r->w, 3);
	vm_ring(r->vm, WAKE_SUSPECT);
	is_destroyed(r);
}

/* --- 10: whose the newest disks are
 * -------------------------------------------------------------------- */

static void stopped(bool disk)
{
	struct rig *r = rig_new(&(struct rig_options){.no_vm = true, .disk = disk});
	begin(r);
	rig_verb(r, VM_START, false);
	assert_true(wait_for(r, VM_UNPROTECTED));
	rig_adopt(r);
	rig_verb(r, VM_STOP, true);
	assert_true(wait_for(r, VM_STOPPED));
	end(r);
	if (disk)
		rig_expect_decided(r, 0, "hostA", "");
	else
		rig_expect_decided(r, 1, "", "");
	rig_free(r);
}

static void rule_10_a_stopped_vm_with_disks_keeps_its_owner(void **state)
{
	stopped(true);
}

static void rule_10_one_without_disks_belongs_to_nobody(void **state)
{
	stopped(false);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(rule_6_mcd_ends_while_it_connects),
	cmocka_unit_test(rule_6_mcd_ends_while_memory_is_copied),
	cmocka_unit_test(rule_6_mcd_ends_in_the_first_epoch),
	cmocka_unit_test(rule_6_mcd_ends_as_the_protection_begins),
	cmocka_unit_test(rule_6_mcd_ends_before_an_ack),
	cmocka_unit_test(rule_6_mcd_ends_after_an_ack),
	cmocka_unit_test(rule_6_mcd_ends_in_any_step_of_an_epoch),
	cmocka_unit_test(rule_6_mcd_ends_while_it_asks_for_the_vm),
	cmocka_unit_test(failover_16_a_restarted_mcd_asks_before_anything_passes),
	cmocka_unit_test(failover_16_whatever_its_own_disk_says),
	cmocka_unit_test(failover_16_an_answer_that_is_not_heard_is_none),
	cmocka_unit_test(failover_16_a_newer_record_of_others_destroys_the_copy),
	cmocka_unit_test(failover_16_its_disk_knows_of_the_new_owner),
	cmocka_unit_test(failover_16_without_a_majority_it_waits),
	cmocka_unit_test(rule_10_a_stopped_vm_with_disks_keeps_its_owner),
	cmocka_unit_test(rule_10_one_without_disks_belongs_to_nobody),
};

rig_main(tests)
