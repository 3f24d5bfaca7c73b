/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mcd/README.md 3: the standby's image moves as a whole. */
#include "tests/unit/standby/rig.h"

/* What rig_protect and the HELLO before it have sent when the messages of epoch 3 begin. */
#define BEFORE_EPOCH_3 10u
enum { SLAB_1, SLAB_2, DEVICES, COMMIT, MESSAGES };

/* Epoch 3, as far as it can be sent. */
static void send_epoch(struct rig *r)
{
	assert_int_equal(r->sent, BEFORE_EPOCH_3);
	far_slab(r);
	far_slab(r);
	far_devices(r);
	far_commit(r);
}

static void rule_3_what_runs_is_the_last_committed_epoch(void **state)
{
	struct rig *r = *state;
	rig_protect(r);
	far_epoch(r);
	assert_int_equal(r->image.epoch, 3);
	far_dies(r);
	expect_runs(r, &r->image);
}

static void rule_3_what_came_of_the_next_epoch_is_dropped(void **state)
{
	struct rig *r = *state;
	rig_protect(r);
	far_slab(r);
	far_slab(r);
	far_devices(r);
	far_settled(r);
	far_dies(r);
	expect_runs(r, &r->image);
}

/* The connection ends after each message of an epoch: before its COMMIT it never was, with it it
 * is. */
static void cut_after(void **state, uint64_t message)
{
	struct rig *r = *state;
	r->plan.cut_after = BEFORE_EPOCH_3 + message;
	rig_protect(r);
	world_suspect(r->w, "hostA", true); /* its host is lost with the connection */
	send_epoch(r);
	if (message == MESSAGES)
		rig_copy(&r->image, &r->now);
	expect_runs(r, &r->image);
}

static void rule_3_an_epoch_cut_off_after_its_first_slab_never_was(void **state)
{
	cut_after(state, SLAB_1 + 1);
}

static void rule_3_an_epoch_cut_off_after_its_last_slab_never_was(void **state)
{
	cut_after(state, SLAB_2 + 1);
}

static void rule_3_an_epoch_cut_off_before_its_commit_never_was(void **state)
{
	cut_after(state, DEVICES + 1);
}

/* The ACK cannot be sent: the primary may or may not go by it, the standby has to have it. */
static void rule_3_an_epoch_cut_off_after_its_commit_is_whole(void **state)
{
	cut_after(state, COMMIT + 1);
}

static void truncated(void **state, uint64_t message)
{
	struct rig *r = *state;
	r->plan.truncate_at = BEFORE_EPOCH_3 + message + 1;
	rig_protect(r);
	world_suspect(r->w, "hostA", true);
	send_epoch(r);
	expect_runs(r, &r->image);
}

static void rule_3_half_a_slab_is_nothing(void **state)
{
	truncated(state, SLAB_2);
}

static void rule_3_half_a_device_state_is_nothing(void **state)
{
	truncated(state, DEVICES);
}

static void rule_3_half_a_commit_is_nothing(void **state)
{
	truncated(state, COMMIT);
}

static void corrupted(void **state, uint64_t message)
{
	struct rig *r = *state;
	r->plan.corrupt_at = BEFORE_EPOCH_3 + message + 1;
	rig_protect(r);
	send_epoch(r);
	far_expect_nothing(r);
	far_dies(r);
	expect_runs(r, &r->image);
}

static void rule_3_a_slab_with_a_wrong_bit_is_not_acknowledged(void **state)
{
	corrupted(state, SLAB_1);
}

static void rule_3_a_device_state_with_a_wrong_bit_is_not_acknowledged(void **state)
{
	corrupted(state, DEVICES);
}

static void rule_3_a_commit_with_a_wrong_bit_is_not_acknowledged(void **state)
{
	corrupted(state, COMMIT);
}

/* --- what is whole, and wrong ----------------------------------------------------------------- */

static void refused(struct rig *r)
{
	far_expect_nothing(r);
	far_dies(r);
	expect_runs(r, &r->image);
	assert_int_equal(world_emitted(r->w, "PROTOCOL_ERROR"), 1);
}

static void wrong_commit(void **state, size_t field)
{
	struct rig *r = *state;
	rig_protect(r);
	far_slab(r);
	far_slab(r);
	far_devices(r);
	struct wire_commit c = far_sum(r);
	uint64_t *const fields[] = {&c.slabs, &c.bytes, &c.device_bytes, &c.digest, &c.disk_writes,
		&c.disk_bytes, &c.disk_digest};
	*fields[field] += 1;
	far_send_commit(r, &c);
	refused(r);
}

static void rule_3_a_commit_of_other_slabs_is_refused(void **state)
{
	wrong_commit(state, 0);
}

static void rule_3_a_commit_of_other_bytes_is_refused(void **state)
{
	wrong_commit(state, 1);
}

static void rule_3_a_commit_of_another_device_state_is_refused(void **state)
{
	wrong_commit(state, 2);
}

static void rule_3_a_commit_of_another_digest_is_refused(void **state)
{
	wrong_commit(state, 3);
}

static void rule_3_a_commit_of_disk_writes_without_disks_is_refused(void **state)
{
	wrong_commit(state, 4);
}

static void rule_3_a_commit_of_disk_bytes_without_disks_is_refused(void **state)
{
	wrong_commit(state, 5);
}

static void rule_3_a_commit_of_a_disk_digest_without_disks_is_refused(void **state)
{
	wrong_commit(state, 6);
}

static void rule_3_an_epoch_without_its_device_state_is_refused(void **state)
{
	struct rig *r = *state;
	rig_protect(r);
	far_slab(r);
	far_commit(r);
	refused(r);
}

static void rule_3_a_second_device_state_is_refused(void **state)
{
	struct rig *r = *state;
	rig_protect(r);
	far_slab(r);
	far_devices(r);
	far_devices(r);
	refused(r);
}

static void rule_3_a_slab_after_the_device_state_is_refused(void **state)
{
	struct rig *r = *state;
	rig_protect(r);
	far_slab(r);
	far_devices(r);
	far_slab(r);
	refused(r);
}

/* The ranges before the wrong one are as good as any: none of them may have been applied. */
static void rule_3_a_slab_with_a_range_outside_of_the_memory_is_refused_as_a_whole(void **state)
{
	struct rig *r = *state;
	uint8_t page[4096] = {0};
	rig_protect(r);
	r->slab.used = 0;
	far_write(r, 4096, 4096);
	assert_int_equal(slab_append(&r->slab, 0, RIG_RAM, page, sizeof page), sizeof page);
	far_send_slab(r);
	far_devices(r);
	far_commit(r);
	refused(r);
}

static void rule_3_memory_of_the_synchronisation_after_an_epoch_is_refused(void **state)
{
	struct rig *r = *state;
	rig_protect(r);
	r->slab.used = 0;
	far_write(r, 4096, 4096);
	slab_seal(&r->slab);
	far_post(r, WIRE_SYNC, r->slab.mem, r->slab.used);
	refused(r);
}

static void rule_3_firmware_after_an_epoch_is_refused(void **state)
{
	struct rig *r = *state;
	uint8_t buf[300 + 4096] = {0};
	rig_protect(r);
	size_t at = wire_put_rom(buf, sizeof buf, "bios");
	far_post(r, WIRE_ROM, buf, at + 4096);
	refused(r);
}

/* A COMMIT and the end of the keep-alives at once: whichever is seen first, the image is one of
 * the two, and the new one if it was acknowledged. */
static void rule_3_a_takeover_begins_between_two_messages(void **state)
{
	struct rig *r = *state;
	rig_protect(r);
	send_epoch(r);
	far_dies(r);
	struct wire_header h = far_recv(r);
	rig_join(r);
	if (h.type == WIRE_ACK || vm_get_epoch(r->vm) == r->now.epoch)
		rig_copy(&r->image, &r->now);
	expect_runs(r, &r->image);
}

/* --- mcd/README.md 4, as the standby sees it -------------------------------------------------- */

static void rule_4_an_epoch_that_was_left_out_is_noticed(void **state)
{
	struct rig *r = *state;
	rig_protect(r);
	r->now.epoch++;
	far_slab(r);
	refused(r);
}

static void rule_4_an_epoch_that_was_committed_is_not_taken_again(void **state)
{
	struct rig *r = *state;
	rig_protect(r);
	r->now.epoch--;
	far_slab(r);
	refused(r);
}

static void rule_4_a_commit_of_another_epoch_is_not_taken(void **state)
{
	struct rig *r = *state;
	rig_protect(r);
	far_slab(r);
	far_devices(r);
	r->now.epoch++;
	far_commit(r);
	refused(r);
}

static void rule_4_a_message_of_another_generation_is_not_taken(void **state)
{
	struct rig *r = *state;
	struct wire_header h = {.type = WIRE_DISCARD,
		.generation = RIG_GENERATION - 1,
		.digest = XXH3_64bits("", 0)};
	rig_protect(r);
	far_post_header(r, &h, NULL);
	refused(r);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(rule_3_what_runs_is_the_last_committed_epoch),
		RIG_TEST(rule_3_what_came_of_the_next_epoch_is_dropped),
		RIG_TEST(rule_3_an_epoch_cut_off_after_its_first_slab_never_was),
		RIG_TEST(rule_3_an_epoch_cut_off_after_its_last_slab_never_was),
		RIG_TEST(rule_3_an_epoch_cut_off_before_its_commit_never_was),
		RIG_TEST(rule_3_an_epoch_cut_off_after_its_commit_is_whole),
		RIG_TEST(rule_3_half_a_slab_is_nothing),
		RIG_TEST(rule_3_half_a_device_state_is_nothing),
		RIG_TEST(rule_3_half_a_commit_is_nothing),
		RIG_TEST(rule_3_a_slab_with_a_wrong_bit_is_not_acknowledged),
		RIG_TEST(rule_3_a_device_state_with_a_wrong_bit_is_not_acknowledged),
		RIG_TEST(rule_3_a_commit_with_a_wrong_bit_is_not_acknowledged),
		RIG_TEST(rule_3_a_commit_of_other_slabs_is_refused),
		RIG_TEST(rule_3_a_commit_of_other_bytes_is_refused),
		RIG_TEST(rule_3_a_commit_of_another_device_state_is_refused),
		RIG_TEST(rule_3_a_commit_of_another_digest_is_refused),
		RIG_TEST(rule_3_a_commit_of_disk_writes_without_disks_is_refused),
		RIG_TEST(rule_3_a_commit_of_disk_bytes_without_disks_is_refused),
		RIG_TEST(rule_3_a_commit_of_a_disk_digest_without_disks_is_refused),
		RIG_TEST(rule_3_an_epoch_without_its_device_state_is_refused),
		RIG_TEST(rule_3_a_second_device_state_is_refused),
		RIG_TEST(rule_3_a_slab_after_the_device_state_is_refused),
		RIG_TEST(rule_3_a_slab_with_a_range_outside_of_the_memory_is_refused_as_a_whole),
		RIG_TEST(rule_3_memory_of_the_synchronisation_after_an_epoch_is_refused),
		RIG_TEST(rule_3_firmware_after_an_epoch_is_refused),
		RIG_TEST(rule_3_a_takeover_begins_between_two_messages),
		RIG_TEST(rule_4_an_epoch_that_was_left_out_is_noticed),
		RIG_TEST(rule_4_an_epoch_that_was_committed_is_not_taken_again),
		RIG_TEST(rule_4_a_commit_of_another_epoch_is_not_taken),
		RIG_TEST(rule_4_a_message_of_another_generation_is_not_taken),
	};
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
