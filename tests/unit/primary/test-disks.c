/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mcd/README.md 9, the primary's half, with the real mirror (diskmirror/mirror.h): a client of
 * its NBD server plays QEMU, and a fake standby takes the disk stream.
 */
#include "common/clock.h"
#include "common/log.h"
#include "mcd/vm/mailbox.h"
#include "tests/unit/diskmirror/fake-standby.h"
#include "tests/unit/diskmirror/link-pair.h"
#include "tests/unit/primary/rig.h"

#include <errno.h>
#include <libnbd.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <xxhash.h>

#define LAST  3
#define BLOCK 4096u

static struct fake_standby *replica;
static struct nbd_handle *qemu;
static bool summed; /* all sums so far were those of the stream */

static struct rig *with_disk(void)
{
	int fd[2];
	struct rig *r = rig_new(&(struct rig_options){.disk = true});
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	replica = fake_start(fd[1]);
	world_give_disk(r->w, test_disklink(fd[0]));
	qemu = NULL;
	summed = true;
	return r;
}

static void done(struct rig *r)
{
	if (qemu)
		nbd_close(qemu);
	assert_string_equal(fake_complaint(replica), "");
	fake_stop(replica);
	rig_free(r);
}

/* As QEMU does when its mirror begins. */
static void connect_qemu(struct rig *r)
{
	char path[500];
	qemu = nbd_create();
	nbd_set_export_name(qemu, "disk0");
	if (nbd_connect_unix(qemu, world_path(r->w, "run/vm1/disks.sock", path, sizeof path)) < 0)
		rig_breach(r, "no NBD server: %s", nbd_get_error());
}

static void write_block(struct rig *r, uint64_t number)
{
	uint8_t data[BLOCK];
	memset(data, (int)number + 1, sizeof data);
	if (nbd_pwrite(qemu, data, sizeof data, number * BLOCK, 0) < 0)
		rig_breach(r, "a write fails: %s", nbd_get_error());
}

/* The guest writes to its disk while it runs. */
static void writes(struct rig *r, enum fake_guest_op op)
{
	if (op == FAKE_GUEST_MIRROR_LOOK && !qemu)
		connect_qemu(r);
	if (op == FAKE_GUEST_STOOD_STILL && qemu && r->arg < 64)
		write_block(r, (uint64_t)r->arg++);
}

static void compare_sums(struct rig *r, enum far_moment m, uint64_t epoch)
{
	struct disk_epoch_sum sum;
	const struct wire_commit *c = &r->far.commit;
	if (m != FAR_COMMIT)
		return;
	summed &= fake_wait_end(replica, epoch, &sum, NULL) && c->disk_writes == sum.writes &&
		  c->disk_bytes == sum.bytes && c->disk_digest == sum.digest;
	r->far.hang_up = epoch > LAST;
}

static void rule_9_the_commit_repeats_the_sum_of_the_disk_writes(void **state)
{
	struct rig *r = with_disk();
	r->at = compare_sums;
	r->at_guest = writes;
	rig_protect(r);
	assert_true(summed);
	assert_true(r->far.epoch > LAST);
	assert_int_equal(r->far.commit.disk_writes, 1);
	assert_int_equal(r->far.commit.disk_bytes, BLOCK);
	rig_expect_alone(r);
	done(r);
}

/* What the guest writes before it stops is of the epoch that ends then, what it writes after, of
 * the next. */
static void write_before_the_pause(struct rig *r, enum fake_guest_op op)
{
	writes(r, op == FAKE_GUEST_STOOD_STILL ? FAKE_GUEST_PING : op);
	if (op == FAKE_GUEST_PAUSE && rig_index(r, "release 2") >= 0 && r->arg++ == 0)
		write_block(r, 7);
	if (op == FAKE_GUEST_STOOD_STILL && rig_index(r, "barrier 3") >= 0 && r->arg++ == 1) {
		write_block(r, 8);
		write_block(r, 9);
	}
}

static uint64_t count_of[8];

static void count_writes(struct rig *r, enum far_moment m, uint64_t epoch)
{
	compare_sums(r, m, epoch);
	if (m == FAR_COMMIT && epoch < 8)
		count_of[epoch] = r->far.commit.disk_writes;
}

static void rule_9_a_write_belongs_to_the_epoch_it_was_made_in(void **state)
{
	struct rig *r = with_disk();
	memset(count_of, 0, sizeof count_of);
	r->at = count_writes;
	r->at_guest = write_before_the_pause;
	rig_protect(r);
	assert_int_equal(count_of[2], 0);
	assert_int_equal(count_of[3], 1);
	assert_int_equal(count_of[4], 2);
	assert_true(summed);
	rig_expect_alone(r);
	done(r);
}

/* --- a write is lost -------------------------------------------------------------------------- */

static void (*lose)(struct rig *r);

static void lose_in_4(struct rig *r, enum fake_guest_op op)
{
	writes(r, op);
	if (op == FAKE_GUEST_SAVE && rig_index(r, "barrier 4") >= 0)
		lose(r);
}

static void ends_before_the_commit(void (*how)(struct rig *r))
{
	struct rig *r = with_disk();
	lose = how;
	r->at = compare_sums;
	r->at_guest = lose_in_4;
	rig_protect(r);
	rig_order(r, "release 3", "barrier 4", "vote +2 {hostA, none}", "pass", NULL);
	assert_int_equal(rig_index(r, "got COMMIT 4"), -1);
	rig_expect_end(r, "disks");
	rig_expect_alone(r);
	done(r);
}

/* Until the mirror has seen it: it rings. */
static void wait_for_the_bell(struct rig *r)
{
	struct pollfd p = {.fd = r->vm->wake, .events = POLLIN};
	if (poll(&p, 1, 2000) != 1)
		rig_breach(r, "the mirror does not notice it");
}

/* QEMU's connection ends without a goodbye: it may have written what never came here. */
static void cut_nbd(struct rig *r)
{
	nbd_close(qemu);
	qemu = NULL;
	wait_for_the_bell(r);
}

static void rule_9_a_write_that_the_mirror_lost_ends_it_before_the_commit(void **state)
{
	ends_before_the_commit(cut_nbd);
}

static void cut_disk_stream(struct rig *r)
{
	r->arg = 64; /* a write would fail, and is not what this is about */
	fake_hang_up(replica);
	wait_for_the_bell(r);
}

static void rule_9_a_disk_stream_that_broke_ends_it_before_the_commit(void **state)
{
	ends_before_the_commit(cut_disk_stream);
}

/* The job has ended by itself; its connection is as it was. */
static void end_job(struct rig *r)
{
	struct guest_mirror m = {.done = 1, .total = 2, .ready = false};
	fake_guest_set_disk(r->guest, RIG_DISK, 0, &m);
}

static void rule_9_a_mirror_job_that_ended_ends_it_before_the_commit(void **state)
{
	ends_before_the_commit(end_job);
}

static void flushes_cannot_be_asked(struct rig *r)
{
	fake_guest_fail(r->guest, FAKE_GUEST_DISK_FLUSHES, 0, EIO);
}

static void rule_9_without_knowing_of_flushes_nothing_is_committed(void **state)
{
	struct rig *r = with_disk();
	lose = flushes_cannot_be_asked;
	r->at = compare_sums;
	r->at_guest = lose_in_4;
	rig_protect(r);
	assert_int_equal(rig_index(r, "got COMMIT 4"), -1);
	rig_expect_end(r, "fault");
	rig_expect_alone(r);
	done(r);
}

/* A dying QEMU closes its mirror some milliseconds before it is dead, and the standby's word on it
 * may come first. */
static pthread_t death;

static void *die_soon(void *arg)
{
	struct timespec ts = {.tv_nsec = 60 * 1000 * 1000};
	nanosleep(&ts, NULL);
	fake_guest_die(arg);
	return NULL;
}

static void mirror_then_word_then_death(struct rig *r, enum far_moment m, uint64_t epoch)
{
	compare_sums(r, m, epoch);
	r->far.hang_up = false;
	if (m != FAR_COMMIT || epoch != LAST)
		return;
	nbd_close(qemu);
	qemu = NULL;
	pthread_create(&death, NULL, die_soon, r->guest);
	r->far.answer.type = WIRE_ERROR;
	r->far.answer.digest = XXH3_64bits("", 0);
}

static void failover_a_qemu_that_is_dying_is_waited_for(void **state)
{
	struct rig *r = with_disk();
	r->at = mirror_then_word_then_death;
	r->at_guest = writes;
	rig_protect(r);
	pthread_join(death, NULL);
	rig_expect_end(r, "guest-gone");
	rig_expect_decided(r, 2, "hostB", "");
	rig_expect_gone(r);
	done(r);
}

/* The standby learns from the END that the guest flushed, and then must be as hard as durability
 * says. */
static enum fake_guest_op flush_at;

static void flush_in_3(struct rig *r, enum fake_guest_op op)
{
	struct guest_mirror m = {.done = RIG_DISK, .total = RIG_DISK, .ready = true};
	writes(r, op);
	if (op == flush_at && rig_index(r, "barrier 3") >= 0)
		fake_guest_set_disk(r->guest, RIG_DISK, 1, &m);
}

static void until_5(struct rig *r, enum far_moment m, uint64_t epoch)
{
	compare_sums(r, m, epoch);
	r->far.hang_up = m == FAR_COMMIT && epoch > 5;
}

/* Those of epochs 2 to 5 that are told, as bits. */
static unsigned told_of_a_flush(enum fake_guest_op at)
{
	struct rig *r = with_disk();
	unsigned told = 0;
	uint32_t flags;
	flush_at = at;
	r->at = until_5;
	r->at_guest = flush_in_3;
	rig_protect(r);
	for (uint64_t n = 2; n <= 5; n++) {
		assert_true(fake_wait_end(replica, n, NULL, &flags));
		told |= flags ? 1u << n : 0;
	}
	rig_expect_alone(r);
	done(r);
	return told;
}

static void rule_9_a_flush_of_the_guest_is_told(void **state)
{
	unsigned told = told_of_a_flush(FAKE_GUEST_SAVE);
	assert_true(told & 1u << 3);
	assert_false(told & ~(1u << 3 | 1u << 4));
}

/* The guest runs again, and flushes before it is asked how often it has: that is of epoch 4. */
static void rule_9_a_flush_just_after_the_resume_is_of_the_next_epoch(void **state)
{
	unsigned told = told_of_a_flush(FAKE_GUEST_DISK_FLUSHES);
	assert_true(told & 1u << 4);
	assert_false(told & ~(1u << 3 | 1u << 4));
}

/* --- 10: the guest ends ----------------------------------------------------------------------- */

static enum guest_event last_event;

static void ends_in_3(struct rig *r, enum far_moment m, uint64_t epoch)
{
	compare_sums(r, m, epoch);
	r->far.hang_up = false;
	if (m != FAR_COMMIT || epoch != LAST)
		return;
	fake_guest_happens(r->guest, last_event);
	vm_ring(r->vm, WAKE_SUSPECT);
}

static void stays_ours(enum guest_event how)
{
	struct rig *r = with_disk();
	last_event = how;
	r->at = ends_in_3;
	r->at_guest = writes;
	r->vm->cfg->on_panic = CONFIG_PANIC_STOP;
	rig_protect(r);
	rig_expect_end(r, "guest-off");
	rig_expect_decided(r, 2, "hostA", "");
	assert_int_equal(vm_get_state(r->vm), VM_STOPPED);
	rig_expect_gone(r);
	done(r);
}

static void rule_10_a_vm_with_disks_that_powers_off_protected_stays_its_owners(void **state)
{
	stays_ours(GUEST_EVENT_SHUTDOWN);
}

static void rule_10_a_vm_with_disks_that_panics_protected_stays_its_owners(void **state)
{
	stays_ours(GUEST_EVENT_PANICKED);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(rule_9_the_commit_repeats_the_sum_of_the_disk_writes),
	cmocka_unit_test(rule_9_a_write_belongs_to_the_epoch_it_was_made_in),
	cmocka_unit_test(rule_9_a_write_that_the_mirror_lost_ends_it_before_the_commit),
	cmocka_unit_test(rule_9_a_disk_stream_that_broke_ends_it_before_the_commit),
	cmocka_unit_test(rule_9_a_mirror_job_that_ended_ends_it_before_the_commit),
	cmocka_unit_test(rule_9_without_knowing_of_flushes_nothing_is_committed),
	cmocka_unit_test(rule_9_a_flush_of_the_guest_is_told),
	cmocka_unit_test(rule_9_a_flush_just_after_the_resume_is_of_the_next_epoch),
	cmocka_unit_test(failover_a_qemu_that_is_dying_is_waited_for),
	cmocka_unit_test(rule_10_a_vm_with_disks_that_powers_off_protected_stays_its_owners),
	cmocka_unit_test(rule_10_a_vm_with_disks_that_panics_protected_stays_its_owners),
};

rig_main(tests)
