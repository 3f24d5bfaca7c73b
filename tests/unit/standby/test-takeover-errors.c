/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A takeover that was won is never given up by itself: whatever is asked of QEMU or of the network
 * on its way fails, once or for a while, and the guest runs in the end, from the image as it was.
 */
#include "tests/unit/standby/rig.h"

#include "mcd/vm/owner.h"
#include "tests/fakes/faults.h"

#include <limits.h>

static void protect(struct rig *r)
{
	r->rom = "firmware";
	rig_protect(r);
}

/* Does not wait for the next attempt. */
static void hurry(struct rig *r)
{
	uint64_t until = mc_now() + RIG_WAIT;
	while (!rig_over(r) && mc_now() < until) {
		if (vm_get_state(r->vm) == VM_TAKING_OVER)
			rig_call(r, VM_TAKEOVER, false);
		usleep(500);
	}
}

static void expect_runs_once(struct rig *r)
{
	expect_runs_after_all(r, &r->image);
	const struct roms *roms = fake_guest_roms(fake_guest_find("vm1"));
	assert_int_equal(roms->n, 1);
	assert_memory_equal(roms->v[0].data, "firmware", 8);
}

/* One takeover with those failures; returns how many calls it had. */
static unsigned take_over(unsigned n, unsigned times, int code, bool first_dies)
{
	void *state;
	assert_int_equal(rig_setup(&state), 0);
	struct rig *r = state;
	protect(r);
	if (first_dies) /* so that another takes its place on the way */
		fake_guest_fail(fake_guest_find("vm1"), FAKE_GUEST_ACTIVATE, 0, EIO);
	faults_arm(n, times, code);
	far_dies(r);
	hurry(r);
	expect_runs_once(r);
	unsigned calls = faults_end();
	rig_teardown(&state);
	return calls;
}

static void sweep(unsigned times, int code, bool first_dies)
{
	unsigned n = 0, calls;
	do {
		calls = take_over(n, times, code, first_dies);
	} while (n++ < calls);
	assert_true(n > (first_dies ? 8 : 5)); /* or it is no sweep */
}

static void rule_12_any_call_that_fails_once_is_made_again(void **state)
{
	sweep(1, EIO, false);
	sweep(1, ETIMEDOUT, false);
}

static void rule_12_any_call_that_fails_while_qemu_is_replaced_is_made_again(void **state)
{
	sweep(1, EIO, true);
}

static void rule_12_any_calls_that_fail_for_a_while_are_made_again(void **state)
{
	sweep(7, ENOSPC, false);
}

static enum fake_guest_op dies_at;

static void die(void *ctx, struct guest *g, enum fake_guest_op op)
{
	if (op == dies_at)
		fake_guest_die(g);
}

static void rule_12_a_qemu_that_dies_at_any_moment_before_it_runs_is_replaced(void **state)
{
	static const enum fake_guest_op ops[] = {
		FAKE_GUEST_STAY_STOPPED, FAKE_GUEST_ACTIVATE, FAKE_GUEST_CONT};
	for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
		void *s;
		assert_int_equal(rig_setup(&s), 0);
		struct rig *r = s;
		protect(r);
		dies_at = ops[i];
		fake_guest_hook(fake_guest_find("vm1"), die, NULL);
		far_dies(r);
		hurry(r);
		expect_runs_once(r);
		assert_int_equal(fake_guests_launched(), 2);
		rig_teardown(&s);
	}
}

static void run_and_die(void *ctx, struct guest *g, enum fake_guest_op op)
{
	if (op != FAKE_GUEST_CONT)
		return;
	fake_guest_happens(g, GUEST_EVENT_RESUMED);
	fake_guest_die(g);
}

/* What it has shown is not shown again from before. */
static void rule_12_a_guest_that_ran_is_not_run_again_from_before(void **state)
{
	struct rig *r = *state;
	protect(r);
	fake_guest_hook(fake_guest_find("vm1"), run_and_die, NULL);
	far_dies(r);
	rig_join(r);
	assert_string_equal(vm_state_name(vm_get_state(r->vm)), "failed");
	assert_int_equal(fake_guests_launched(), 1);
}

/* --- the operator ----------------------------------------------------------------------------- */

static void begin_stuck(struct rig *r)
{
	protect(r);
	faults_arm(0, UINT_MAX, EMFILE);
	far_dies(r);
	rig_await_alarm(r);
}

static void rule_12_it_is_kept_until_the_operator_gives_it_up_by_force(void **state)
{
	struct rig *r = *state;
	begin_stuck(r);
	rig_call(r, VM_STOP, false);
	for (unsigned i = 0; i < 20; i++) {
		rig_call(r, VM_TAKEOVER, false);
		usleep(1000);
	}
	assert_false(rig_over(r));
	assert_true(guest_alive(fake_guest_find("vm1")));
	assert_true(rig_kept(r, NULL));
	rig_call(r, VM_STOP, true);
	expect_gone(r);
	faults_end();
}

static void an_mcd_that_ends_leaves_it_to_the_next(void **state)
{
	struct rig *r = *state;
	begin_stuck(r);
	vm_ring(r->vm, WAKE_QUIT);
	rig_join(r);
	assert_true(guest_alive(fake_guest_find("vm1")));
	assert_true(rig_kept(r, NULL));
	faults_end();
}

/* Forced elsewhere by an operator, for it must not run twice. */
static void a_newer_record_ends_it(void **state)
{
	struct rig *r = *state;
	begin_stuck(r);
	struct own_record theirs = world_record(RIG_GENERATION + 2, "hostA", "");
	world_decide(r->w, &theirs);
	vm_learned(r->vm, &theirs);
	expect_gone(r);
	faults_end();
}

static void an_announcement_that_fails_comes_later(void **state)
{
	struct rig *r = *state;
	protect(r);
	netbuf_fake_fail(netbuf_fake_find("vm1"), NETBUF_FAKE_ANNOUNCE, 0, ENOBUFS);
	far_dies(r);
	expect_runs_once(r);
	assert_int_equal(fake_guests_launched(), 1);
	assert_int_equal(netbuf_fake_calls(netbuf_fake_find("vm1"), NETBUF_FAKE_ANNOUNCE), 1);
	assert_false(r->vm->owes.word);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rule_12_any_call_that_fails_once_is_made_again),
		cmocka_unit_test(rule_12_any_call_that_fails_while_qemu_is_replaced_is_made_again),
		cmocka_unit_test(rule_12_any_calls_that_fail_for_a_while_are_made_again),
		cmocka_unit_test(rule_12_a_qemu_that_dies_at_any_moment_before_it_runs_is_replaced),
		RIG_TEST(rule_12_a_guest_that_ran_is_not_run_again_from_before),
		RIG_TEST(rule_12_it_is_kept_until_the_operator_gives_it_up_by_force),
		RIG_TEST(an_mcd_that_ends_leaves_it_to_the_next),
		RIG_TEST(a_newer_record_ends_it),
		RIG_TEST(an_announcement_that_fails_comes_later),
	};
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
