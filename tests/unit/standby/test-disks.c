/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mcd/README.md 9 and 10 on a standby: the disks move with the memory, and a copy is marked from
 * its first byte until it is whole. */
#include "diskmirror/replica-state.h"
#include "mcd/vm/disks.h"
#include "tests/unit/standby/disk-far.h"
#include "tests/unit/standby/rig.h"

#include <sys/eventfd.h>

static struct disk_far *disks;

static int setup(void **state)
{
	rig_setup(state);
	disks = disk_far_new();
	((struct rig *)*state)->more = disk_far_config(disks);
	return 0;
}

static int teardown(void **state)
{
	rig_teardown(state);
	disk_far_free(disks);
	return 0;
}
#define DISK_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static enum replica_trust trust(struct rig *r)
{
	struct disks_paths p;
	struct replica_state st = {0};
	struct mc_error err = MC_ERROR_INIT;
	if (disks_paths(r->vm, &p, &err) < 0 || replica_state_load(p.state, &st, &err) < 0)
		fail_msg("%s", err.msg);
	return st.trust;
}

static void greet(struct rig *r)
{
	struct link_peer peer = {.name = "hostA", .subject = "vm1", .purpose = LINK_DISK};
	rig_make(r);
	world_give_disk(r->w, disk_far_hello(disks));
	vm_offer_disk(r->vm, eventfd(0, EFD_CLOEXEC), &peer);
	rig_begin(r);
	far_hello(r);
	disk_far_greeted(disks);
}

/* An epoch with a disk write. */
static void disk_epoch(struct rig *r)
{
	uint64_t n = r->now.epoch;
	disk_far_write(disks, n, n % 8 * 4096, (unsigned)n);
	r->disk_sum = disk_far_end(disks, n);
	far_epoch(r);
	disk_far_committed(disks);
	r->disk_sum = (struct disk_epoch_sum){0};
}

static void protect(struct rig *r)
{
	greet(r);
	far_sync(r);
	disk_epoch(r);
	far_named(r);
	disk_epoch(r);
}

/* --- 9 ---------------------------------------------------------------------------------------- */

static void rule_9_what_runs_has_the_disks_of_the_same_epoch(void **state)
{
	struct rig *r = *state;
	protect(r);
	disk_epoch(r);
	far_dies(r);
	expect_runs(r, &r->image);
	disk_far_expect_committed(disks);
	assert_int_equal(trust(r), REPLICA_ACTIVE);
}

static void rule_9_disk_writes_that_are_not_committed_are_dropped(void **state)
{
	struct rig *r = *state;
	protect(r);
	disk_far_write(disks, r->now.epoch, 4096, 17);
	r->disk_sum = disk_far_end(disks, r->now.epoch);
	far_slab(r);
	far_devices(r);
	far_settled(r);
	far_dies(r);
	expect_runs(r, &r->image);
	disk_far_expect_committed(disks);
	assert_int_equal(trust(r), REPLICA_ACTIVE);
}

/* The memory's part of the COMMIT fits, and the digest of the whole. */
static void not_exactly(void **state, size_t field)
{
	struct rig *r = *state;
	protect(r);
	disk_far_write(disks, r->now.epoch, 4096, 17);
	r->disk_sum = disk_far_end(disks, r->now.epoch);
	uint64_t *const fields[] = {&r->disk_sum.writes, &r->disk_sum.bytes, &r->disk_sum.digest};
	*fields[field] += 1;
	far_slab(r);
	far_devices(r);
	far_commit(r);
	far_expect_nothing(r);
	far_dies(r);
	expect_runs(r, &r->image);
	disk_far_expect_committed(disks);
}

static void rule_9_an_epoch_with_a_write_less_is_not_acknowledged(void **state)
{
	not_exactly(state, 0);
}

static void rule_9_an_epoch_with_fewer_bytes_is_not_acknowledged(void **state)
{
	not_exactly(state, 1);
}

static void rule_9_an_epoch_with_other_writes_is_not_acknowledged(void **state)
{
	not_exactly(state, 2);
}

static void rule_9_the_disks_are_part_of_an_epochs_digest(void **state)
{
	struct rig *r = *state;
	protect(r);
	disk_far_write(disks, r->now.epoch, 4096, 17);
	r->disk_sum = disk_far_end(disks, r->now.epoch);
	far_slab(r);
	far_devices(r);
	r->disks = false; /* it is left out of the whole */
	struct wire_commit c = far_sum(r);
	r->disks = true;
	far_send_commit(r, &c);
	far_expect_nothing(r);
	far_dies(r);
	expect_runs(r, &r->image);
}

/* The COMMIT overtakes the writes: the ACK waits for them. */
static void rule_9_the_ack_waits_for_the_disk_writes(void **state)
{
	struct rig *r = *state;
	struct wire_header h;
	protect(r);
	uint64_t n = r->now.epoch;
	disk_far_write(disks, n, 4096, 17);
	/* What the END will say is known before it is sent: the same write, once more,
	 * elsewhere. */
	struct disk_far *twin = disk_far_new();
	struct disklink *nobody = disk_far_hello(twin);
	disk_far_write(twin, n, 4096, 17);
	r->disk_sum = disk_far_end(twin, n);
	far_slab(r);
	far_devices(r);
	far_commit(r);
	assert_int_equal(transport_recv(r->far, &h, mc_now() + 20 * MC_MSEC, -1, NULL), -ETIMEDOUT);
	disk_far_end(disks, n);
	far_acked(r);
	disk_far_committed(disks);
	nobody->ops->close(nobody);
	disk_far_free(twin);
	far_dies(r);
	expect_runs(r, &r->image);
	disk_far_expect_committed(disks);
}

static void rule_9_a_primary_that_dies_before_its_disk_writes_came_has_not_committed(void **state)
{
	struct rig *r = *state;
	protect(r);
	disk_far_write(disks, r->now.epoch, 4096, 17);
	r->disk_sum.writes = 1;
	r->disk_sum.bytes = 4096;
	far_slab(r);
	far_devices(r);
	far_commit(r);
	far_taken(r);
	far_dies(r);
	expect_runs(r, &r->image);
	disk_far_expect_committed(disks);
}

/* --- 10 --------------------------------------------------------------------------------------- */

static void rule_10_a_copy_is_marked_from_its_first_byte_until_it_is_whole(void **state)
{
	struct rig *r = *state;
	greet(r);
	assert_int_equal(trust(r), REPLICA_SYNCING);
	far_sync(r);
	disk_epoch(r);
	far_settled(r);
	assert_int_equal(trust(r), REPLICA_SYNCING); /* its record may never be decided */
	far_named(r);
	disk_epoch(r);
	assert_int_equal(trust(r), REPLICA_WHOLE);
}

static void rule_10_a_protection_that_failed_leaves_it_marked(void **state)
{
	struct rig *r = *state;
	greet(r);
	far_sync(r);
	far_close(r);
	expect_gone(r);
	assert_int_equal(trust(r), REPLICA_SYNCING);
}

static void rule_10_what_a_standby_was_told_to_drop_stays_a_standbys(void **state)
{
	struct rig *r = *state;
	protect(r);
	far_post(r, WIRE_DISCARD, NULL, 0);
	expect_gone(r);
	assert_int_equal(trust(r), REPLICA_WHOLE);
	disk_far_expect_committed(disks);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		DISK_TEST(rule_9_what_runs_has_the_disks_of_the_same_epoch),
		DISK_TEST(rule_9_disk_writes_that_are_not_committed_are_dropped),
		DISK_TEST(rule_9_an_epoch_with_a_write_less_is_not_acknowledged),
		DISK_TEST(rule_9_an_epoch_with_fewer_bytes_is_not_acknowledged),
		DISK_TEST(rule_9_an_epoch_with_other_writes_is_not_acknowledged),
		DISK_TEST(rule_9_the_disks_are_part_of_an_epochs_digest),
		DISK_TEST(rule_9_the_ack_waits_for_the_disk_writes),
		DISK_TEST(rule_9_a_primary_that_dies_before_its_disk_writes_came_has_not_committed),
		DISK_TEST(rule_10_a_copy_is_marked_from_its_first_byte_until_it_is_whole),
		DISK_TEST(rule_10_a_protection_that_failed_leaves_it_marked),
		DISK_TEST(rule_10_what_a_standby_was_told_to_drop_stays_a_standbys),
	};
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
