/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a standby makes of its primary's end and of its QEMU's. */
#include "tests/unit/standby/rig.h"

#include "mcd/vm/owner.h"
#include "tests/fakes/faults.h"

#include <limits.h>

/* --- in order --------------------------------------------------------------------------------- */

static void a_protection_that_is_ended_in_order_leaves_nothing(void **state)
{
	struct rig *r = *state;
	rig_protect(r);
	far_post(r, WIRE_DISCARD, NULL, 0);
	expect_gone(r);
	assert_int_equal(r->n_votes, 0);
}

static void a_protection_that_was_ended_in_order_is_not_gone_on_from(void **state)
{
	struct rig *r = *state;
	rig_protect(r);
	far_post(r, WIRE_DISCARD, NULL, 0);
	far_taken(r);
	far_dies(r);
	expect_gone(r);
	assert_int_equal(r->n_votes, 0);
}

static void before_the_first_epoch_there_is_nothing_to_keep(void **state)
{
	struct rig *r = *state;
	rig_begin(r);
	far_hello(r);
	far_sync(r);
	far_dies(r);
	expect_gone(r);
	assert_int_equal(r->n_votes, 0);
}

/* --- handed over ------------------------------------------------------------------------------ */

static void hand_over(struct rig *r)
{
	uint64_t generation;
	rig_protect(r);
	far_slab(r); /* of an epoch whose end will not come */
	far_post(r, WIRE_HANDOVER, NULL, 0);
	assert_int_equal(far_expect(r, WIRE_KEPT).epoch, r->image.epoch);
	assert_true(rig_kept(r, &generation));
	assert_int_equal(generation, RIG_GENERATION + 1);
}

static void a_standby_that_is_handed_the_vm_goes_on_with_it(void **state)
{
	struct rig *r = *state;
	struct own_record ours = world_record(RIG_GENERATION + 1, "hostB", "");
	hand_over(r);
	world_decide(r->w, &ours);
	vm_learned(r->vm, &ours);
	expect_runs(r, &r->image);
	assert_int_equal(r->n_votes, 0);
}

/* Nobody tells it: it asks what the voters know while it waits. */
static void a_standby_that_was_handed_the_vm_learns_it_by_itself(void **state)
{
	struct rig *r = *state;
	struct own_record ours = world_record(RIG_GENERATION + 1, "hostB", "");
	hand_over(r);
	world_decide(r->w, &ours);
	expect_runs(r, &r->image);
}

/* The record came before the primary's own word, and its connection is open. */
static void a_handover_that_was_not_heard_of_ends_the_link(void **state)
{
	struct rig *r = *state;
	struct own_record ours = world_record(RIG_GENERATION + 1, "hostB", "");
	rig_protect(r);
	far_slab(r);
	far_devices(r);
	far_settled(r);
	world_decide(r->w, &ours);
	vm_learned(r->vm, &ours);
	expect_runs(r, &r->image);
	far_commit(r);
	assert_true(r->lost);
	far_expect_nothing(r);
}

static void after_the_handover_nothing_is_acknowledged(void **state)
{
	struct rig *r = *state;
	rig_protect(r);
	far_post(r, WIRE_HANDOVER, NULL, 0);
	far_slab(r);
	far_devices(r);
	far_commit(r);
	far_expect(r, WIRE_KEPT);
	far_expect_nothing(r);
	far_dies(r);
	expect_runs(r, &r->image);
}

/* --- its own QEMU ----------------------------------------------------------------------------- */

static void protect_with_firmware(struct rig *r)
{
	r->rom = "firmware";
	rig_protect(r);
}

static void expect_firmware(void)
{
	const struct roms *roms = fake_guest_roms(fake_guest_find("vm1"));
	assert_int_equal(roms->n, 1);
	assert_string_equal(roms->v[0].id, "pc.bios");
	assert_int_equal(roms->v[0].size, 4096);
	assert_memory_equal(roms->v[0].data, "firmware", 8);
}

static void the_firmware_is_given_to_the_qemu_that_waits(void **state)
{
	struct rig *r = *state;
	protect_with_firmware(r);
	far_dies(r);
	expect_runs(r, &r->image);
	expect_firmware();
	assert_int_equal(fake_guests_launched(), 1);
}

static void a_waiting_qemu_that_dies_is_replaced_and_the_image_is_not_touched(void **state)
{
	struct rig *r = *state;
	protect_with_firmware(r);
	fake_guest_die(fake_guest_find("vm1"));
	far_epoch(r);
	far_dies(r);
	expect_runs(r, &r->image);
	expect_firmware();
	assert_int_equal(fake_guests_launched(), 2);
}

static void epochs_are_taken_while_no_qemu_can_be_started(void **state)
{
	struct rig *r = *state;
	protect_with_firmware(r);
	fake_guest_fail(NULL, FAKE_GUEST_LAUNCH, 0, EIO);
	fake_guest_die(fake_guest_find("vm1"));
	far_epoch(r);
	assert_int_equal(world_emitted(r->w, "ALARM"), 1);
	far_epoch(r);
	far_dies(r);
	expect_runs(r, &r->image);
	expect_firmware();
}

static void die_when_activated(void *ctx, struct guest *g, enum fake_guest_op op)
{
	if (op == FAKE_GUEST_ACTIVATE)
		fake_guest_die(g);
}

static void a_qemu_that_dies_of_its_activation_is_replaced(void **state)
{
	struct rig *r = *state;
	protect_with_firmware(r);
	fake_guest_hook(fake_guest_find("vm1"), die_when_activated, NULL);
	far_dies(r);
	expect_runs_after_all(r, &r->image);
	expect_firmware();
	assert_int_equal(fake_guests_launched(), 2);
}

static void a_qemu_that_refuses_the_state_is_replaced(void **state)
{
	struct rig *r = *state;
	protect_with_firmware(r);
	fake_guest_fail(fake_guest_find("vm1"), FAKE_GUEST_ACTIVATE, 0, EIO);
	far_dies(r);
	expect_runs_after_all(r, &r->image);
	expect_firmware();
	assert_int_equal(fake_guests_launched(), 2);
}

static void nothing_is_activated_behind_a_closed_door(void **state)
{
	struct rig *r = *state;
	size_t len;
	rig_protect(r);
	faults_arm(0, UINT_MAX, EIO);
	far_dies(r);
	rig_await_alarm(r);
	assert_null(fake_guest_activated(fake_guest_find("vm1"), &len));
	faults_end();
	rig_call(r, VM_TAKEOVER, false);
	expect_runs(r, &r->image);
}

/* --- what the guest did at the end of the epoch ----------------------------------------------- */

static void stands(void **state, enum wire_guest what, enum guest_event told)
{
	struct rig *r = *state;
	rig_protect(r);
	r->now.guest = what;
	far_epoch(r);
	far_dies(r);
	expect_runs(r, &r->image);
	assert_int_equal(guest_next_event(r->vm->guest), told);
}

static void a_guest_that_its_administrator_stopped_stands_here_too(void **state)
{
	stands(state, WIRE_GUEST_STOPPED, GUEST_EVENT_NONE);
}

static void a_guest_that_panicked_stands_here_and_says_so(void **state)
{
	stands(state, WIRE_GUEST_PANICKED, GUEST_EVENT_PANICKED);
}

static void a_guest_that_powered_off_stands_here_and_says_so(void **state)
{
	stands(state, WIRE_GUEST_OFF, GUEST_EVENT_SHUTDOWN);
}

static void a_guest_that_was_resumed_runs_here(void **state)
{
	struct rig *r = *state;
	rig_protect(r);
	r->now.guest = WIRE_GUEST_STOPPED;
	far_epoch(r);
	r->now.guest = WIRE_GUEST_RUNS;
	far_epoch(r);
	far_dies(r);
	expect_runs(r, &r->image);
}

/* --- keep-alives ------------------------------------------------------------------------------ */

static void a_protection_whose_keep_alives_are_cut_goes_on_with_its_data(void **state)
{
	struct rig *r = *state;
	/* so that no scheduling hiccup is a silence */
	world_config(r->w)->keepalive_interval = MC_SEC;
	rig_protect(r);
	world_others_hear(r->w, true);
	far_dies(r);
	for (unsigned i = 0; i < 5; i++)
		far_epoch(r);
	world_suspect(r->w, "hostA", false);
	far_epoch(r);
	assert_int_equal(r->n_votes, 0);
	assert_false(rig_over(r));
	assert_int_equal(world_emitted(r->w, "SUSPECTED"), 0);
}

static void an_mcd_that_ends_takes_its_waiting_qemu_along(void **state)
{
	struct rig *r = *state;
	rig_protect(r);
	vm_ring(r->vm, WAKE_QUIT);
	rig_join(r);
	assert_true(fake_guest_is_free(fake_guest_find("vm1")));
	assert_false(guest_alive(fake_guest_find("vm1")));
	assert_int_equal(r->n_votes, 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(a_protection_that_is_ended_in_order_leaves_nothing),
		RIG_TEST(a_protection_that_was_ended_in_order_is_not_gone_on_from),
		RIG_TEST(before_the_first_epoch_there_is_nothing_to_keep),
		RIG_TEST(a_standby_that_is_handed_the_vm_goes_on_with_it),
		RIG_TEST(a_standby_that_was_handed_the_vm_learns_it_by_itself),
		RIG_TEST(a_handover_that_was_not_heard_of_ends_the_link),
		RIG_TEST(after_the_handover_nothing_is_acknowledged),
		RIG_TEST(the_firmware_is_given_to_the_qemu_that_waits),
		RIG_TEST(a_waiting_qemu_that_dies_is_replaced_and_the_image_is_not_touched),
		RIG_TEST(epochs_are_taken_while_no_qemu_can_be_started),
		RIG_TEST(a_qemu_that_dies_of_its_activation_is_replaced),
		RIG_TEST(a_qemu_that_refuses_the_state_is_replaced),
		RIG_TEST(nothing_is_activated_behind_a_closed_door),
		RIG_TEST(a_guest_that_its_administrator_stopped_stands_here_too),
		RIG_TEST(a_guest_that_panicked_stands_here_and_says_so),
		RIG_TEST(a_guest_that_powered_off_stands_here_and_says_so),
		RIG_TEST(a_guest_that_was_resumed_runs_here),
		RIG_TEST(a_protection_whose_keep_alives_are_cut_goes_on_with_its_data),
		RIG_TEST(an_mcd_that_ends_takes_its_waiting_qemu_along),
	};
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
