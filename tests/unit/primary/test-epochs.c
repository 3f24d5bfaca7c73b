/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mcd/README.md 5 and 11, and what else an epoch meets on its way: pressure, a changed machine,
 * verify. */
#include "common/clock.h"
#include "common/log.h"
#include "mcd/vm/mailbox.h"
#include "mcd/vm/status.h"
#include "mcd/wire/slab.h"
#include "tests/unit/primary/rig.h"

#include <stdlib.h>
#include <string.h>

#define LAST 3
#define MIB  (1u << 20)

static void hang_up(struct rig *r, enum far_moment m, uint64_t epoch)
{
	r->far.hang_up = m == FAR_COMMIT && epoch > LAST;
}

/* --- 5: the budget
 * ----------------------------------------------------------------------------------- */

static void twenty(struct config *c)
{
	c->delay = 2 * MC_MSEC;
	c->max_buffer = 20 * MIB; /* four slabs */
}

static void dirty(struct rig *r, size_t len)
{
	uint8_t *data = malloc(len);
	memset(data, 0xa0 + (int)(r->said % 16), len);
	fake_guest_write(r->guest, 0, MIB, data, len);
	free(data);
}

/* In the running time of epoch 3. */
static void write_40(struct rig *r, enum netbuf_fake_op op, uint64_t epoch)
{
	if (op == NETBUF_FAKE_RELEASE && epoch == 2)
		dirty(r, 40 * MIB);
}

/* How much of it is with hostB when the guest is to run again. */
static void count_slabs(struct rig *r, enum fake_guest_op op)
{
	if (op != FAKE_GUEST_CONT || rig_index(r, "barrier 3") < 0 || r->arg)
		return;
	rig_settle(r);
	r->arg = (int)rig_count(r, "slab 3");
}

static uint64_t buffer(struct rig *r, const char *what)
{
	json_t *j = vm_status_json(r->vm);
	uint64_t n =
		(uint64_t)json_integer_value(json_object_get(json_object_get(j, "buffer"), what));
	json_decref(j);
	return n;
}

static void rule_5_a_large_epoch_stays_within_max_buffer(void **state)
{
	struct rig *r = rig_new(&(struct rig_options){.change = twenty, .memory = "64M"});
	r->at = hang_up;
	r->at_network = write_40;
	r->at_guest = count_slabs;
	rig_protect(r);
	assert_true(r->far.epoch > LAST);
	assert_int_equal(buffer(r, "peak"), 4 * SLAB_SIZE);
	/* The guest stands until the last of it is copied: what does not fit is sent meanwhile. */
	assert_true(rig_count(r, "slab 3") > 8);
	assert_true(r->arg > 4);
	rig_expect_alone(r);
	rig_free(r);
}

static void patient(struct config *c)
{
	c->delay = 9 * MC_SEC;
	c->max_buffer = 20 * MIB;
}

/* The bell, so that the running epoch looks at once, not after a quarter of the delay. */
static void write_11(struct rig *r, enum netbuf_fake_op op, uint64_t epoch)
{
	if (op != NETBUF_FAKE_RELEASE)
		return;
	dirty(r, 11 * MIB);
	vm_ring(r->vm, WAKE_SUSPECT);
}

static void rule_5_at_half_of_it_an_epoch_ends_early(void **state)
{
	struct rig *r = rig_new(&(struct rig_options){.change = patient, .memory = "64M"});
	uint64_t began = mc_now();
	r->at = hang_up;
	r->at_network = write_11;
	rig_protect(r);
	assert_true(mc_now() - began < 9 * MC_SEC);
	rig_expect_alone(r);
	rig_free(r);
}

/* --- output piles up
 * --------------------------------------------------------------------------------- */

static void little_room(struct config *c)
{
	c->delay = 9 * MC_SEC;
	c->hold_limit = 1 << 20;
}

/* Three quarters of the limit, and a little. */
static void talk(struct rig *r, unsigned until_bytes)
{
	struct netbuf_stats st;
	do {
		rig_say(r);
		netbuf_get_stats(r->nb, &st);
	} while (st.held_bytes < until_bytes);
}

static void talk_after_release(struct rig *r, enum netbuf_fake_op op, uint64_t epoch)
{
	/* Pressure is told once an epoch, and this is still the hold of the last one. */
	if (op == NETBUF_FAKE_RELEASE && epoch <= LAST)
		talk(r, 800 << 10);
}

static void rule_5_output_that_piles_up_ends_the_epoch_early(void **state)
{
	struct rig *r = rig_new(&(struct rig_options){.change = little_room});
	uint64_t began = mc_now();
	r->at = hang_up;
	r->at_network = talk_after_release;
	rig_protect(r);
	assert_true(mc_now() - began < 9 * MC_SEC);
	assert_true(r->far.epoch > LAST);
	rig_expect_alone(r);
	rig_free(r);
}

static void quick_little_room(struct config *c)
{
	c->delay = 2 * MC_MSEC;
	c->hold_limit = 1 << 20;
}

/* Epoch 3 is sent, and not acknowledged: what is said now is of epoch 4. */
static void talk_before_the_ack(struct rig *r, enum far_moment m, uint64_t epoch)
{
	hang_up(r, m, epoch);
	if (m != FAR_COMMIT || epoch != 3)
		return;
	talk(r, 800 << 10);
	for (int i = 0; i < 1000 && fake_guest_runs(r->guest); i++)
		nanosleep(&(struct timespec){0, 1000000}, NULL);
	if (fake_guest_runs(r->guest))
		rig_breach(r, "the guest runs while its output piles up");
	rig_note(r, "stands");
}

static void rule_5_output_that_piles_up_stops_the_guest_until_the_ack(void **state)
{
	struct rig *r = rig_new(&(struct rig_options){.change = quick_little_room});
	r->at = talk_before_the_ack;
	rig_protect(r);
	rig_order(r, "got COMMIT 3", "stands", "ack 3", "release 3", "barrier 4", NULL);
	assert_true(rig_index_after(r, "guest cont", "stands") > rig_index(r, "barrier 4"));
	rig_expect_alone(r);
	rig_free(r);
}

/* --- 3: what the first copy leaves
 * ------------------------------------------------------------------ */

/* Written while memory is copied: between the last round that is answered and the first epoch. */
static void write_late(struct rig *r, enum far_moment m, uint64_t epoch)
{
	uint8_t page[4096];
	memset(page, 0x5a, sizeof page);
	if (m == FAR_SYNC_END)
		fake_guest_write(
			r->guest, 0, (64 + r->far.rounds) * sizeof page, page, sizeof page);
	r->far.hang_up = m == FAR_COMMIT;
	uint64_t size;
	const uint8_t *ram = fake_guest_ram(r->guest, 0, &size);
	if (m == FAR_COMMIT && memcmp(r->far.image[0] + 2 * sizeof page, ram + 2 * sizeof page,
				       size - 2 * sizeof page))
		rig_breach(r, "epoch 1 is not what the guest has in its memory");
}

static void rule_3_all_memory_of_the_first_copy_arrives(void **state)
{
	struct rig *r = *state;
	r->at = write_late;
	rig_protect(r);
	assert_int_equal(r->far.epoch, 1);
	rig_expect_alone(r);
}

/* --- 11: the machine changes
 * ------------------------------------------------------------------------- */

static const struct guest_inventory changes[] = {
	{.devices = 2},
	{.devices = 1, .media = 3, .words = "cd0: /srv/two.iso"},
	{.devices = 1, .replaced = 1, .device = "net1"},
};
static const char *const changes_said[] = {"a device was plugged or unplugged",
	"a medium was changed or ejected (now cd0: /srv/two.iso)",
	"the device net1 was taken out, and another was plugged in its place"};

static void plug(struct rig *r, enum fake_guest_op op)
{
	if (op == FAKE_GUEST_PAUSE && rig_index(r, "release 3") >= 0)
		fake_guest_set_inventory(r->guest, &changes[r->arg]);
}

static void expect_said(struct rig *r)
{
	char buf[800];
	const char *why = world_event(r->w, "PROTECTION_ENDED", "reason", buf, sizeof buf);
	assert_non_null(why);
	assert_non_null(strstr(why, changes_said[r->arg]));
}

static void changes_then(struct rig *r, int change)
{
	r->at_guest = plug;
	r->arg = change;
	rig_protect(r);
	rig_order(r, "release 3", "barrier 4", "vote +2 {hostA, none}", NULL);
	assert_int_equal(rig_index(r, "got COMMIT 4"), -1);
	rig_expect_end(r, "fault");
	expect_said(r);
	rig_expect_alone(r);
}

static void rule_11_a_plugged_device_ends_it_before_the_commit(void **state)
{
	changes_then(*state, 0);
}

static void rule_11_a_changed_medium_ends_it_before_the_commit(void **state)
{
	changes_then(*state, 1);
}

static void rule_11_a_swapped_device_ends_it_before_the_commit(void **state)
{
	changes_then(*state, 2);
}

static void plug_late(struct rig *r, enum fake_guest_op op)
{
	if (op == FAKE_GUEST_STOOD_STILL && rig_index(r, "barrier 4") >= 0)
		fake_guest_set_inventory(r->guest, &changes[0]);
}

static void rule_11_also_one_that_is_plugged_as_the_epoch_ends(void **state)
{
	struct rig *r = *state;
	r->at_guest = plug_late;
	rig_protect(r);
	assert_int_equal(rig_index(r, "got COMMIT 4"), -1);
	rig_expect_alone(r);
}

static void rule_11_a_changed_machine_is_not_protected(void **state)
{
	struct rig *r = *state;
	for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
		fake_guest_set_inventory(r->guest, &changes[i]);
		rig_protect(r);
		assert_int_equal(rig_index(r, "got HELLO"), -1);
		assert_int_equal(rig_index(r, "hold 1"), -1);
		rig_expect_alone(r);
		rig_again(r);
	}
}

/* Or its first save could be the end of it. */
static void rule_11_a_guest_that_cannot_be_saved_is_left_alone(void **state)
{
	struct rig *r = *state;
	fake_guest_fail(r->guest, FAKE_GUEST_MIGRATABLE, 0, ENOTSUP);
	rig_protect(r);
	assert_int_equal(fake_guest_calls(r->guest, FAKE_GUEST_OPEN_MEMORY), 0);
	assert_int_equal(fake_guest_calls(r->guest, FAKE_GUEST_PAUSE), 0);
	assert_int_equal(fake_guest_calls(r->guest, FAKE_GUEST_SAVE), 0);
	assert_int_equal(rig_index(r, "hold 1"), -1);
	rig_expect_alone(r);
}

/* --- verify
 * ------------------------------------------------------------------------------------------ */

static void verify(struct rig *r, enum far_moment m, uint64_t epoch)
{
	if (m == FAR_COMMIT && epoch == 2)
		rig_verb(r, VM_VERIFY, false);
	r->far.hang_up = m == FAR_COMMIT && r->far.verified >= 32;
}

static void all_memory_is_compared_at_some_epoch(void **state)
{
	struct rig *r = *state;
	r->at = verify;
	rig_protect(r); /* far.c compares */
	assert_int_equal(r->far.verified, 8 * MIB / (256 << 10));
	rig_expect_alone(r);
}

/* --- a reset in the pause --------------------------------------------------------------------- */

static int saves;

static void reset_in_the_pause(struct rig *r, enum fake_guest_op op)
{
	saves += op == FAKE_GUEST_SAVE && rig_index(r, "barrier 3") >= 0 &&
		 rig_index(r, "barrier 4") < 0;
	if (op == FAKE_GUEST_COLLECT && rig_index(r, "barrier 3") >= 0 && r->arg++ == 0) {
		fake_guest_write(r->guest, 0, FAR_COUNT_AT + 4096, "reset", 5);
		fake_guest_set_devices(r->guest, "a fresh machine", 15);
		fake_guest_happens(r->guest, GUEST_EVENT_RESET);
	}
}

static void hang_up_after_4(struct rig *r, enum far_moment m, uint64_t epoch)
{
	if (m == FAR_COMMIT)
		r->far.hang_up = epoch > 4;
}

/* Its own, which it had begun when it was stopped: what was read before is read again. */
static void rule_3_a_reset_in_the_pause_is_captured_whole(void **state)
{
	struct rig *r = *state;
	saves = 0;
	r->at_guest = reset_in_the_pause;
	r->at = hang_up_after_4;
	rig_protect(r);
	rig_order(r, "barrier 3", "got COMMIT 3", "ack 3", "release 3", "got COMMIT 4", NULL);
	assert_int_equal(saves, 2);
	assert_memory_equal(r->far.image[0] + FAR_COUNT_AT + 4096, "reset", 5);
	rig_expect_end(r, "link");
	rig_expect_alone(r);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(rule_5_a_large_epoch_stays_within_max_buffer),
	cmocka_unit_test(rule_5_at_half_of_it_an_epoch_ends_early),
	cmocka_unit_test(rule_5_output_that_piles_up_ends_the_epoch_early),
	cmocka_unit_test(rule_5_output_that_piles_up_stops_the_guest_until_the_ack),
	rig_test(rule_3_all_memory_of_the_first_copy_arrives),
	rig_test(rule_3_a_reset_in_the_pause_is_captured_whole),
	rig_test(rule_11_a_plugged_device_ends_it_before_the_commit),
	rig_test(rule_11_a_changed_medium_ends_it_before_the_commit),
	rig_test(rule_11_a_swapped_device_ends_it_before_the_commit),
	rig_test(rule_11_also_one_that_is_plugged_as_the_epoch_ends),
	rig_test(rule_11_a_changed_machine_is_not_protected),
	rig_test(rule_11_a_guest_that_cannot_be_saved_is_left_alone),
	rig_test(all_memory_is_compared_at_some_epoch),
};

rig_main(tests)
