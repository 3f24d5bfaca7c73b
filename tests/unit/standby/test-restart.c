/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An mcd that finds what a former one left of a standby: a waiting QEMU with the memory, and, if a
 * takeover had begun, the device state (mcd/README.md, 6; failover/README.md, 13, 15 and 16).
 */
#include "mcd/life/life.h"
#include "mcd/standby/ends.h"
#include "mcd/vm/machine.h"
#include "mcd/vm/owner.h"
#include "mcd/vm/takeover-file.h"
#include "tests/unit/standby/rig.h"

#include <fcntl.h>
#include <unistd.h>

#define TAKEOVER (RIG_GENERATION + 1) /* of the record that the former mcd had asked for */

static uint64_t kept_generation; /* what the takeover file is of; 0: there is none */
static void (*at_look)(struct rig *r, unsigned n);
static unsigned looks;
static struct rig *rig;
static int (*current_of_world)(
	void *ctx, const char *vm, uint64_t deadline, struct own_record *ret, struct mc_error *err);

static int current(
	void *ctx, const char *vm, uint64_t deadline, struct own_record *ret, struct mc_error *err)
{
	if (at_look)
		at_look(rig, ++looks);
	return current_of_world(ctx, vm, deadline, ret, err);
}

static void ring(struct rig *r, size_t n)
{
	vm_ring(r->vm, WAKE_RECORD); /* so that it does not rest */
}

static struct rig *begin(void **state)
{
	struct rig *r = rig = *state;
	kept_generation = TAKEOVER;
	at_look = NULL;
	looks = 0;
	current_of_world = r->ops.current;
	r->ops.current = current;
	r->at_vote = ring;
	return r;
}

/* As the former mcd had it: QEMU, its memory, and the file. */
static void leave_behind(struct rig *r)
{
	struct mc_error err = MC_ERROR_INIT;
	char dir[300];
	if (vm_prepare(r->vm, &err) < 0 || vm_launch(r->vm, true, MC_SEC, &err) < 0)
		abort();
	struct guest *g = fake_guest_find("vm1");
	memset(fake_guest_ram(g, 0, NULL) + 4096, 0x5a, 4096);
	memset(r->image.ram + 4096, 0x5a, 4096);
	snprintf(r->image.devices, sizeof r->image.devices, "what was kept");
	struct takeover_state t = {.generation = kept_generation,
		.epoch = 5,
		.primary = "hostA",
		.devices = (uint8_t *)r->image.devices,
		.len = strlen(r->image.devices)};
	vm_run_dir(r->vm, dir, sizeof dir);
	if (kept_generation && takeover_file_save(dir, &t, NULL, &err) < 0)
		abort();
}

static void find_it(struct rig *r)
{
	leave_behind(r);
	ends_restart_standby(r->vm);
}

static void decided(
	struct rig *r, uint64_t generation, const char *owner, const char *standby, bool known)
{
	struct own_record rec = world_record(generation, owner, standby);
	world_decide(r->w, &rec);
	if (known)
		world_know(r->w, &rec);
}

static void run_it(struct rig *r)
{
	rig_make(r);
	rig_run(r, find_it);
	rig_join(r);
}

static void expect_ended(struct rig *r)
{
	size_t len;
	struct guest *g = fake_guest_find("vm1");
	assert_null(r->vm->guest);
	assert_null(fake_guest_activated(g, &len));
	assert_false(guest_alive(g));
	assert_null(netbuf_fake_find("vm1"));
	assert_false(rig_kept(r, NULL));
}

/* --- a takeover that had begun ---------------------------------------------------------------- */

static void failover_16_a_takeover_that_was_not_decided_is_asked_for_again(void **state)
{
	struct rig *r = begin(state);
	decided(r, RIG_GENERATION, "hostA", "hostB", true);
	run_it(r);
	expect_runs(r, &r->image);
	assert_int_equal(r->n_votes, 1);
	assert_int_equal(r->votes[0].asked.generation, TAKEOVER);
	assert_string_equal(r->votes[0].asked.owner, "hostB");
	assert_false(r->votes[0].activated || r->votes[0].visible);
}

static void failover_16_a_takeover_is_not_finished_while_no_majority_answers(void **state)
{
	struct rig *r = begin(state);
	decided(r, RIG_GENERATION, "hostA", "hostB", true);
	world_votes(r->w, WORLD_STUCK, 3);
	run_it(r);
	expect_runs(r, &r->image);
	assert_int_equal(r->n_votes, 4);
	for (size_t i = 0; i < r->n_votes; i++) {
		assert_int_equal(r->votes[i].asked.generation, TAKEOVER);
		assert_false(r->votes[i].activated || r->votes[i].visible);
	}
}

static void failover_16_a_takeover_that_was_decided_is_finished(void **state)
{
	struct rig *r = begin(state);
	decided(r, TAKEOVER, "hostB", "", true);
	run_it(r);
	expect_runs(r, &r->image);
	assert_int_equal(r->n_votes, 0);
}

static void failover_16_a_takeover_that_others_know_to_be_decided_is_finished(void **state)
{
	struct rig *r = begin(state);
	decided(r, RIG_GENERATION, "hostA", "hostB", true);
	decided(r, TAKEOVER, "hostB", "", false);
	run_it(r);
	expect_runs(r, &r->image);
	assert_int_equal(r->n_votes, 1);
}

static void failover_16_a_takeover_that_was_decided_for_the_primary_is_none(void **state)
{
	struct rig *r = begin(state);
	decided(r, TAKEOVER, "hostA", "", true);
	run_it(r);
	expect_ended(r);
	assert_int_equal(r->n_votes, 0);
}

static void failover_16_a_takeover_that_others_know_to_be_lost_is_none(void **state)
{
	struct rig *r = begin(state);
	decided(r, RIG_GENERATION, "hostA", "hostB", true);
	decided(r, TAKEOVER, "hostA", "", false);
	run_it(r);
	expect_ended(r);
	assert_int_equal(r->n_votes, 1);
}

/* --- a file that does not fit ----------------------------------------------------------------- */

static void failover_13_an_image_older_than_the_record_is_never_activated(void **state)
{
	struct rig *r = begin(state);
	decided(r, TAKEOVER + 1, "hostB", "", true); /* ours by now, and not from this image */
	run_it(r);
	expect_ended(r);
	assert_int_equal(r->n_votes, 0);
}

static void failover_13_an_image_of_an_earlier_session_is_never_activated(void **state)
{
	struct rig *r = begin(state);
	decided(r, TAKEOVER + 1, "hostA", "hostB", true);
	run_it(r);
	expect_ended(r);
	assert_int_equal(r->n_votes, 0);
}

static void failover_13_an_image_of_a_standby_that_was_not_named_is_never_activated(void **state)
{
	struct rig *r = begin(state);
	decided(r, RIG_GENERATION, "hostA", "hostC", true);
	run_it(r);
	expect_ended(r);
	assert_int_equal(r->n_votes, 0);
}

static void a_waiting_qemu_without_a_device_state_ends(void **state)
{
	struct rig *r = begin(state);
	kept_generation = 0;
	decided(r, RIG_GENERATION, "hostA", "hostB", true);
	run_it(r);
	expect_ended(r);
	assert_int_equal(r->n_votes, 0);
}

static void find_it_damaged(struct rig *r)
{
	char path[400], dir[300];
	leave_behind(r);
	vm_run_dir(r->vm, dir, sizeof dir);
	snprintf(path, sizeof path, "%s/takeover", dir);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (pwrite(fd, "X", 1, 125) != 1) /* within the device state */
		abort();
	close(fd);
	ends_restart_standby(r->vm);
}

static void a_damaged_device_state_is_not_activated(void **state)
{
	struct rig *r = begin(state);
	decided(r, TAKEOVER, "hostB", "", true);
	rig_make(r);
	rig_run(r, find_it_damaged);
	rig_join(r);
	expect_ended(r);
}

/* --- voters that are behind ------------------------------------------------------------------- */

static void voters_learn(struct rig *r, unsigned n)
{
	struct own_record named = world_record(RIG_GENERATION, "hostA", "hostB");
	if (n == 3) {
		world_decide(r->w, &named);
		vm_learned(r->vm, &named);
	} else {
		vm_ring(r->vm, WAKE_RECORD);
	}
}

static void voters_that_are_behind_do_not_cost_the_image(void **state)
{
	struct rig *r = begin(state);
	at_look = voters_learn; /* of record 6 only, until then */
	run_it(r);
	expect_runs(r, &r->image);
	assert_true(looks >= 3);
	assert_int_equal(r->n_votes, 1);
	assert_int_equal(r->votes[0].asked.generation, TAKEOVER);
}

/* --- a QEMU that the former mcd had begun to load -------------------------------------------- */

static enum fake_guest_op broken;
static int broken_code;

/* As a later mcd has it: without the memory, but for what QEMU itself holds. */
static void find_it_in_the_middle(struct rig *r)
{
	leave_behind(r);
	struct guest *g = fake_guest_find("vm1");
	fake_guest_add_rom(g, "pc.bios", "firmware", 8);
	for (size_t i = 0; i < r->vm->plan.n_ram; i++) {
		close(r->vm->ram_fds[i]);
		r->vm->ram_fds[i] = -1;
	}
	fake_guest_fail(g, broken, 0, broken_code);
	ends_restart_standby(r->vm);
}

static void replaced(struct rig *r, enum fake_guest_op op, int code, unsigned launched)
{
	broken = op;
	broken_code = code;
	decided(r, TAKEOVER, "hostB", "", true);
	rig_make(r);
	rig_run(r, find_it_in_the_middle);
	expect_runs_after_all(r, &r->image);
	assert_int_equal(fake_guests_launched(), launched);
	const struct roms *roms = fake_guest_roms(fake_guest_find("vm1"));
	assert_int_equal(roms->n, 1);
	assert_memory_equal(roms->v[0].data, "firmware", 8);
}

/* It says that it loads already. */
static void a_load_that_the_former_mcd_began_is_begun_anew_in_another_qemu(void **state)
{
	replaced(begin(state), FAKE_GUEST_ACTIVATE, EINVAL, 2);
}

static void a_load_that_is_not_over_in_time_is_begun_anew_in_another_qemu(void **state)
{
	replaced(begin(state), FAKE_GUEST_ACTIVATE, ETIMEDOUT, 2);
}

static void the_memory_is_asked_for_again_when_it_is_needed(void **state)
{
	replaced(begin(state), FAKE_GUEST_BRING_RAM, EMFILE, 1);
}

/* --- and this mcd ends as well ---------------------------------------------------------------- */

static void let_go(struct rig *r)
{
	leave_behind(r);
	vm_leave_guest(r->vm);
}

static void live(struct rig *r)
{
	life_run(r->vm);
}

static void quit_at_the_second(struct rig *r, size_t n)
{
	vm_ring(r->vm, n == 2 ? WAKE_QUIT : WAKE_RECORD);
}

static void rule_6_an_mcd_that_ends_leaves_a_takeover_to_the_next(void **state)
{
	struct rig *r = begin(state);
	size_t len;
	decided(r, RIG_GENERATION, "hostA", "hostB", true);
	world_votes(r->w, WORLD_STUCK, 2);
	rig_make(r);
	rig_run(r, let_go);
	rig_join(r);
	r->at_vote = quit_at_the_second;
	rig_run(r, live);
	rig_join(r);
	assert_int_equal(r->n_votes, 2);
	struct guest *g = fake_guest_find("vm1");
	assert_true(guest_alive(g));
	assert_null(fake_guest_activated(g, &len));
	assert_true(rig_kept(r, NULL));
	/* The next one. */
	r->vm->quit = false;
	r->at_vote = ring;
	rig_run(r, live);
	rig_await(r, VM_UNPROTECTED);
	vm_ring(r->vm, WAKE_QUIT);
	rig_join(r);
	assert_int_equal(r->n_votes, 3);
	assert_true(fake_guest_runs(g));
	assert_int_equal(fake_guests_launched(), 1);
}

static void rule_6_an_mcd_that_ends_leaves_what_it_was_handed(void **state)
{
	struct rig *r = begin(state);
	rig_protect(r);
	far_post(r, WIRE_HANDOVER, NULL, 0);
	far_expect(r, WIRE_KEPT);
	vm_ring(r->vm, WAKE_QUIT);
	rig_join(r);
	assert_true(guest_alive(fake_guest_find("vm1")));
	assert_true(rig_kept(r, NULL));
	decided(r, TAKEOVER, "hostB", "", false);
	rig_run(r, live); /* vm->quit is set: it lets go of what it has */
	rig_join(r);
	assert_true(guest_alive(fake_guest_find("vm1")));
	r->vm->quit = false;
	rig_run(r, live);
	rig_await(r, VM_UNPROTECTED);
	struct guest *g = fake_guest_find("vm1");
	size_t len;
	assert_memory_equal(fake_guest_ram(g, 0, NULL), r->image.ram, RIG_RAM);
	assert_memory_equal(
		fake_guest_activated(g, &len), r->image.devices, strlen(r->image.devices));
	assert_true(fake_guest_runs(g));
}

/* It does not answer at the moment: the takeover must not be lost by that. */
static void rule_6_a_qemu_that_cannot_be_adopted_at_once_keeps_its_device_state(void **state)
{
	struct rig *r = begin(state);
	decided(r, TAKEOVER, "hostB", "", true);
	rig_make(r);
	rig_run(r, let_go);
	rig_join(r);
	fake_guest_fail(NULL, FAKE_GUEST_ADOPT, 0, ETIMEDOUT);
	vm_ring(r->vm, WAKE_RECORD); /* so that it does not wait long for help */
	rig_run(r, live);
	rig_await(r, VM_UNPROTECTED);
	assert_true(fake_guest_runs(fake_guest_find("vm1")));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(failover_16_a_takeover_that_was_not_decided_is_asked_for_again),
		RIG_TEST(failover_16_a_takeover_is_not_finished_while_no_majority_answers),
		RIG_TEST(failover_16_a_takeover_that_was_decided_is_finished),
		RIG_TEST(failover_16_a_takeover_that_others_know_to_be_decided_is_finished),
		RIG_TEST(failover_16_a_takeover_that_was_decided_for_the_primary_is_none),
		RIG_TEST(failover_16_a_takeover_that_others_know_to_be_lost_is_none),
		RIG_TEST(failover_13_an_image_older_than_the_record_is_never_activated),
		RIG_TEST(failover_13_an_image_of_an_earlier_session_is_never_activated),
		RIG_TEST(failover_13_an_image_of_a_standby_that_was_not_named_is_never_activated),
		RIG_TEST(a_waiting_qemu_without_a_device_state_ends),
		RIG_TEST(a_damaged_device_state_is_not_activated),
		RIG_TEST(a_load_that_the_former_mcd_began_is_begun_anew_in_another_qemu),
		RIG_TEST(a_load_that_is_not_over_in_time_is_begun_anew_in_another_qemu),
		RIG_TEST(the_memory_is_asked_for_again_when_it_is_needed),
		RIG_TEST(voters_that_are_behind_do_not_cost_the_image),
		RIG_TEST(rule_6_an_mcd_that_ends_leaves_a_takeover_to_the_next),
		RIG_TEST(rule_6_an_mcd_that_ends_leaves_what_it_was_handed),
		RIG_TEST(rule_6_a_qemu_that_cannot_be_adopted_at_once_keeps_its_device_state),
	};
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
