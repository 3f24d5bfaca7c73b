/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mcd/README.md 2: whatever fails, what is held stays held until the voters have decided. */
#include "common/log.h"
#include "mcd/vm/machine.h"
#include "mcd/vm/mailbox.h"
#include "tests/unit/primary/rig.h"

#include <errno.h>

#define LAST  3 /* the epoch in whose ACK it is arranged */
#define STUCK 3 /* votes that come to nothing before one is won */

struct failure {
	enum { GUEST, NETWORK } of;
	int op, skip, code;
	const char *last;  /* what is seen before the end, and ... */
	const char *never; /* what is not */
};
static const struct failure *failing;

/* Between two votes that came to nothing. */
static void held(struct rig *r, const struct own_record *next)
{
	if (!next->standby[0])
		rig_expect_held(r);
}

static void arrange(struct rig *r, enum far_moment m, uint64_t epoch)
{
	if (m != FAR_COMMIT || epoch != LAST)
		return;
	if (failing->of == GUEST)
		fake_guest_fail(
			r->guest, (enum fake_guest_op)failing->op, failing->skip, failing->code);
	else
		netbuf_fake_fail(
			r->nb, (enum netbuf_fake_op)failing->op, failing->skip, failing->code);
	rig_stick(r, STUCK);
}

static void fails(struct rig *r, const struct failure *f)
{
	failing = f;
	r->at = arrange;
	r->at_vote = held;
	rig_protect(r);
	rig_order(r, "release 2", f->last, "vote +2 {hostA, none}", "pass", NULL);
	if (f->never)
		assert_int_equal(rig_index(r, f->never), -1);
	assert_int_equal(rig_count(r, "vote +2 {hostA, none}"), STUCK + 1);
	rig_expect_alone(r);
}

static void rule_2_a_pause_that_fails(void **state)
{
	fails(*state, &(struct failure){GUEST, FAKE_GUEST_PAUSE, 0, EIO, "release 3", "barrier 4"});
}

static void rule_2_a_barrier_that_fails(void **state)
{
	fails(*state, &(struct failure){
			      NETWORK, NETBUF_FAKE_BARRIER, 0, EIO, "barrier 4", "got COMMIT 4"});
}

static void rule_2_a_save_that_fails(void **state)
{
	fails(*state,
		&(struct failure){GUEST, FAKE_GUEST_SAVE, 0, EIO, "barrier 4", "got COMMIT 4"});
}

static void rule_2_a_save_without_an_answer(void **state)
{
	fails(*state, &(struct failure){
			      GUEST, FAKE_GUEST_SAVE, 0, ETIMEDOUT, "barrier 4", "got COMMIT 4"});
}

static void rule_2_a_scan_that_fails(void **state)
{
	fails(*state,
		&(struct failure){GUEST, FAKE_GUEST_COLLECT, 0, EIO, "barrier 4", "got COMMIT 4"});
}

static void rule_2_a_resume_that_fails(void **state)
{
	fails(*state,
		&(struct failure){GUEST, FAKE_GUEST_CONT, 0, EIO, "barrier 4", "got COMMIT 4"});
}

static void rule_2_a_guest_that_did_not_stand_still(void **state)
{
	fails(*state, &(struct failure){
			      GUEST, FAKE_GUEST_STOOD_STILL, 0, EIO, "barrier 4", "got COMMIT 4"});
}

static void rule_2_an_inspection_that_fails(void **state)
{
	fails(*state, &(struct failure){
			      GUEST, FAKE_GUEST_INVENTORY, 0, EIO, "barrier 4", "got COMMIT 4"});
}

static void rule_2_a_release_that_fails(void **state)
{
	fails(*state,
		&(struct failure){NETWORK, NETBUF_FAKE_RELEASE, 0, EIO, "release 3", "barrier 4"});
}

/* Somebody let the guest run in the middle: what was read is of no one moment, and no epoch. */
static void run_it(struct rig *r, enum fake_guest_op op)
{
	if (op == FAKE_GUEST_SAVE && rig_index(r, "release 3") >= 0) {
		fake_guest_happens(r->guest, GUEST_EVENT_RESUMED);
		r->at_guest = NULL;
	}
}

static void rule_2_an_epoch_of_no_one_moment_is_not_sent(void **state)
{
	struct rig *r = *state;
	r->at_guest = run_it;
	rig_protect(r);
	rig_order(r, "release 3", "barrier 4", "vote +2 {hostA, none}", "pass", NULL);
	assert_int_equal(rig_index(r, "got COMMIT 4"), -1);
	rig_expect_end(r, "fault");
	rig_expect_alone(r);
}

static int hold_fails(void **state)
{
	rig_setup(state);
	struct rig *r = *state;
	netbuf_fake_fail(r->nb, NETBUF_FAKE_HOLD, 0, EIO);
	return 0;
}

static void rule_2_a_hold_that_fails(void **state)
{
	struct rig *r = *state;
	rig_stick(r, STUCK);
	r->at_vote = held;
	rig_protect(r);
	rig_order(r, "hold 1", "vote +1 {hostA, none}", "pass", NULL);
	assert_int_equal(rig_count(r, "vote +1 {hostA, none}"), STUCK + 1);
	assert_int_equal(rig_index(r, "barrier 1"), -1);
	rig_expect_alone(r);
}

/* The network cannot be opened: the VM stays shut in, and its life tries again. */
static void the_pass_fails(struct rig *r, enum far_moment m, uint64_t epoch)
{
	r->far.hang_up = m == FAR_COMMIT && epoch == LAST;
	if (r->far.hang_up)
		netbuf_fake_fail(r->nb, NETBUF_FAKE_PASS, 0, EIO);
}

static void rule_2_a_pass_that_fails_is_tried_again(void **state)
{
	struct rig *r = *state;
	r->at = the_pass_fails;
	rig_protect(r);
	assert_true(r->vm->shut_in);
	assert_true(r->out < r->said);
	vm_open(r->vm);
	assert_false(r->vm->shut_in);
	rig_expect_alone(r);
}

/* mcd is told to end, and the voters are stuck. */
static void quit_at_the_second(struct rig *r, const struct own_record *next)
{
	held(r, next);
	if (!next->standby[0] && r->arg++ == 1)
		vm_ring(r->vm, WAKE_QUIT);
}

static void rule_2_quit_does_not_open_the_hold(void **state)
{
	struct rig *r = *state;
	failing = &(struct failure){GUEST, FAKE_GUEST_SAVE, 0, EIO, "", ""};
	r->at = arrange;
	r->at_vote = quit_at_the_second;
	rig_protect(r);
	assert_true(r->vm->quit);
	assert_int_equal(rig_count(r, "vote +2 {hostA, none}"), 2);
	assert_int_equal(rig_index(r, "pass"), -1);
	assert_true(r->out <= r->acked && r->acked < r->said);
	/* It is neither killed nor thrown away, and life.c will have it run on. */
	assert_true(guest_alive(r->guest));
	assert_int_equal(guest_resume(r->vm->guest, 1000, NULL), 0);
	assert_true(fake_guest_runs(r->guest));
	rig_judge(r);
}

static const struct CMUnitTest tests[] = {
	rig_test(rule_2_a_pause_that_fails),
	rig_test(rule_2_a_barrier_that_fails),
	rig_test(rule_2_a_save_that_fails),
	rig_test(rule_2_a_save_without_an_answer),
	rig_test(rule_2_a_scan_that_fails),
	rig_test(rule_2_a_resume_that_fails),
	rig_test(rule_2_a_guest_that_did_not_stand_still),
	rig_test(rule_2_an_inspection_that_fails),
	rig_test(rule_2_a_release_that_fails),
	rig_test(rule_2_an_epoch_of_no_one_moment_is_not_sent),
	cmocka_unit_test_setup_teardown(rule_2_a_hold_that_fails, hold_fails, rig_teardown),
	rig_test(rule_2_a_pass_that_fails_is_tried_again),
	rig_test(rule_2_quit_does_not_open_the_hold),
};

rig_main(tests)
