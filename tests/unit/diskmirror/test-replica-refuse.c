/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a standby takes from nobody, and what it does when its own disk fails. */
#include "tests/unit/diskmirror/fake-primary.h"
#include "tests/unit/diskmirror/link-pair.h"

#include "diskmirror/replica-state.h"
#include "diskmirror/seam.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* After epoch 1 was committed and half of epoch 2 has come: what `say` sends ends the session, is
 * explained to the primary, rings once, and has touched nothing. */
static void refused(void (*say)(struct world *w), const char *why)
{
	struct world w;
	uint8_t *committed[DISKS];
	struct mc_error err = MC_ERROR_INIT;
	world_init(&w);
	world_open(&w);
	send_write(&w, 0, 0, 0, 70000, 1);
	send_write(&w, 1, 0, 0, 4096, 1);
	struct disk_epoch_sum sum = send_end(&w, 1, false);
	commit(&w, 1, &sum);
	copy_model(&w, committed);
	send_write(&w, 2, 0, 4096, 4096, 1);
	say(&w);
	expect_error(&w, why);
	wait_broken(&w);
	assert_true(replica_error(w.r, &err) < 0);
	assert_string_equal(err.cls, MC_ECLASS_PROTOCOL);
	assert_true(replica_wait(w.r, 2, &sum, soon(), -1, NULL) < 0);
	expect_files(&w, committed);
	/* The primary is the one at fault: the VM can run here. */
	assert_int_equal(replica_take(w.r, NULL), 0);
	assert_int_equal(replica_own(w.r, 8, NULL), 0);
	expect_files(&w, committed);
	assert_int_equal(w.broken, 1);
	free_model(committed);
	world_destroy(&w);
}

static void skip_an_epoch(struct world *w)
{
	send_end(w, 2, false);
	send_write(w, 4, 0, 0, 4096, 1);
}
static void go_back(struct world *w)
{
	send_write(w, 1, 0, 0, 4096, 1);
}
static void repeat_an_end(struct world *w)
{
	send_end(w, 2, false);
	send_end(w, 2, false);
}
static void leave_without_an_end(struct world *w)
{
	send_write(w, 3, 0, 0, 4096, 1);
}
static void run_ahead(struct world *w)
{
	send_end(w, 2, false);
	send_write(w, 3, 0, 0, 4096, 1);
	send_end(w, 3, false);
	send_write(w, 4, 0, 0, 4096, 1);
}
static void synchronise_again(struct world *w)
{
	send_write(w, 0, 0, 0, 4096, 1);
}
static void test_epochs_out_of_sequence_are_refused(void **state)
{
	refused(skip_an_epoch, "epoch 4 of the disk writes came when 3 was expected");
	refused(go_back, "within epoch 2");
	refused(repeat_an_end, "when 3 was expected");
	refused(leave_without_an_end, "within epoch 2");
	refused(run_ahead, "when 2 was not committed");
	refused(synchronise_again, "synchronisation came after it");
}

static void raw(struct world *w, struct disk_header h, const void *payload)
{
	uint8_t head[DISK_HEADER_SIZE];
	disk_put_header(head, &h);
	send_raw(w, head, sizeof head);
	if (payload)
		send_raw(w, payload, h.length);
}
static uint8_t zeroes[8192];

static void write_behind_the_end(struct world *w)
{
	raw(w, (struct disk_header){DISK_WRITE, 0, 0, 2, SIZE0 - 4095, 4096, 1}, NULL);
}
static void zero_behind_the_end(struct world *w)
{
	raw(w, (struct disk_header){DISK_ZERO, 1, 0, 2, 0, SIZE1 + 1}, NULL);
}
static void trim_far_behind(struct world *w)
{
	raw(w, (struct disk_header){DISK_TRIM, 1, 0, 2, DISK_SIZE_MAX - 1, 1}, NULL);
}
static void read_behind_the_end(struct world *w)
{
	raw(w, (struct disk_header){DISK_READ, 0, 0, 0, SIZE0, 1}, NULL);
}
static void third_disk(struct world *w)
{
	raw(w, (struct disk_header){DISK_WRITE, 2, 0, 2, 0, 4096, 1}, NULL);
}
static void test_ranges_beyond_the_disk_are_refused_before_their_data(void **state)
{
	refused(write_behind_the_end, "behind the end of disk disk0");
	refused(zero_behind_the_end, "behind the end of disk disk1");
	refused(trim_far_behind, "behind the end of disk disk1");
	refused(read_behind_the_end, "behind the end of disk disk0");
	refused(third_disk, "names disk 2 of 2");
}

static void wrong_digest(struct world *w)
{
	raw(w, (struct disk_header){DISK_WRITE, 0, 0, 2, 0, 4096, 1}, zeroes);
}
static void garbage(struct world *w)
{
	send_raw(w, zeroes, 100);
}
static void answer_unasked(struct world *w)
{
	raw(w, (struct disk_header){DISK_DATA, 0, 0, 0, 0, 4096, 1}, zeroes);
}
static void second_hello(struct world *w)
{
	send_hello(w, GENERATION, "disk0", SIZE0);
}
static void wrong_sum(struct world *w)
{
	w->sum.bytes--;
	send_end(w, 2, false);
}
static void wrong_count(struct world *w)
{
	w->sum.writes++;
	send_end(w, 2, false);
}
static void wrong_order(struct world *w)
{
	w->digest.h ^= 1;
	send_end(w, 2, false);
}
static void test_damage_is_refused(void **state)
{
	refused(wrong_digest, "wrong digest");
	refused(garbage, "not a message");
	refused(answer_unasked, "type 9");
	refused(second_hello, "type 1");
	refused(wrong_sum, "not those that its end tells of");
	refused(wrong_count, "not those that its end tells of");
	refused(wrong_order, "not those that its end tells of");
}

static void test_another_session_or_disk_is_refused(void **state)
{
	struct world w;
	struct mc_error err = MC_ERROR_INIT;
	static const struct {
		uint64_t g;
		const char *id;
		uint64_t size;
		const char *cls;
	} bad[] = {
		{GENERATION + 1, "disk0", SIZE0, MC_ECLASS_NOT_OWNER},
		{GENERATION, "disk9", SIZE0, MC_ECLASS_CONFIG},
		{GENERATION, "disk0", SIZE0 + 512, MC_ECLASS_CONFIG},
	};
	world_init(&w);
	world_open(&w);
	world_close(&w);
	for (size_t i = 0; i < 3; i++) {
		int sv[2];
		struct disklink *l;
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
		l = test_disklink(sv[1]);
		w.fd = sv[0];
		send_hello(&w, bad[i].g, bad[i].id, bad[i].size);
		assert_true(replica_open(&w.c, l, soon(), &w.r, &err) < 0);
		assert_string_equal(err.cls, bad[i].cls);
		expect_error(&w, err.msg);
		close(w.fd);
		w.fd = -1;
	}
	world_destroy(&w);
}

static void test_a_silent_primary_does_not_hold_the_opening_up(void **state)
{
	struct world w;
	struct mc_error err = MC_ERROR_INIT;
	struct disklink *l;
	int sv[2];
	world_init(&w);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	l = test_disklink(sv[1]);
	assert_int_equal(replica_open(&w.c, l, mc_now() + 30 * MC_MSEC, &w.r, &err), -ETIMEDOUT);
	close(sv[0]);
	world_destroy(&w);
}

static void test_the_primary_can_say_why_it_ends(void **state)
{
	struct world w;
	struct mc_error err = MC_ERROR_INIT;
	static const char text[] = "the guest was\nshut down";
	world_init(&w);
	world_open(&w);
	send_message(&w, (struct disk_header){.type = DISK_ERROR, .length = sizeof text - 1}, text);
	wait_broken(&w);
	replica_error(w.r, &err);
	assert_non_null(strstr(err.msg, "the guest was?shut down"));
	world_destroy(&w);
}

/* --- our own disk fails ----------------------------------------------------------------------- */

static int countdown, failure;

static int fail_later(int fd, uint64_t off, uint64_t len)
{
	return __atomic_fetch_sub(&countdown, 1, __ATOMIC_SEQ_CST) > 0 ? 0 : failure;
}
static int fail_sync(int fd)
{
	return -EIO;
}
static const struct disk_seam failing_writes = {.before_write = fail_later};
static const struct disk_seam failing_sync = {.fdatasync = fail_sync};

static void a_full_disk_in_the_middle_of_an_epoch_is_final_but_mended_by_the_journal(void **state)
{
	struct world w;
	struct mc_error err = MC_ERROR_INIT;
	world_init(&w);
	world_open(&w);
	for (unsigned i = 0; i < 20; i++)
		send_write(&w, 1, 0, i * 8192, 4096, i);
	struct disk_epoch_sum sum = send_end(&w, 1, false);
	assert_int_equal(replica_wait(w.r, 1, &sum, soon(), -1, NULL), 0);
	assert_int_equal(replica_harden(w.r, 1, NULL), 0);
	countdown = 10;
	failure = -ENOSPC;
	disk_seam = &failing_writes;
	assert_int_equal(replica_apply(w.r, 1, &err), -ENOSPC);
	assert_non_null(strstr(err.msg, w.disks[0].path));
	assert_non_null(strstr(err.msg, "free some space"));
	expect_error(&w, "free some space");
	wait_broken(&w);
	assert_int_equal(replica_disk_failed(w.r, &err), -ENOSPC);
	/* half an epoch: nobody may run the VM on it */
	assert_int_equal(replica_take(w.r, &err), -ENOSPC);
	disk_seam = NULL;
	assert_true(replica_apply(w.r, 1, NULL) < 0);
	world_close(&w);
	assert_int_equal(replica_recover(w.journal, w.disks, DISKS, NULL), 0);
	expect_files(&w, w.model);
	world_destroy(&w);
}

/* No other copy is there, and this one can be made whole. */
static void a_takeover_applies_again_what_the_disk_refused_before(void **state)
{
	struct world w;
	world_init(&w);
	world_open(&w);
	for (unsigned i = 0; i < 20; i++)
		send_write(&w, 1, 0, i * 8192, 4096, i);
	struct disk_epoch_sum sum = send_end(&w, 1, false);
	assert_int_equal(replica_wait(w.r, 1, &sum, soon(), -1, NULL), 0);
	assert_int_equal(replica_harden(w.r, 1, NULL), 0);
	countdown = 10;
	failure = -EIO;
	disk_seam = &failing_writes;
	assert_int_equal(replica_apply(w.r, 1, NULL), -EIO);
	assert_int_equal(replica_take(w.r, NULL), -EIO);
	disk_seam = NULL;
	assert_int_equal(replica_take(w.r, NULL), 0);
	expect_files(&w, w.model);
	disk_seam = &failing_sync;
	assert_int_equal(replica_own(w.r, 8, NULL), -EIO);
	disk_seam = NULL;
	assert_int_equal(replica_own(w.r, 8, NULL), 0);
	assert_int_equal(replica_disk_failed(w.r, NULL), -EIO);
	expect_files(&w, w.model);
	world_destroy(&w);
}

static void test_a_failing_flush_is_final(void **state)
{
	struct world w;
	world_init(&w);
	world_open(&w);
	send_write(&w, 1, 0, 0, 4096, 1);
	struct disk_epoch_sum sum = send_end(&w, 1, false);
	commit(&w, 1, &sum);
	send_write(&w, 2, 0, 0, 4096, 2);
	sum = send_end(&w, 2, false);
	assert_int_equal(replica_wait(w.r, 2, &sum, soon(), -1, NULL), 0);
	disk_seam = &failing_sync;
	assert_int_equal(replica_harden(w.r, 2, NULL), -EIO);
	disk_seam = NULL;
	wait_broken(&w);
	/* A second fdatasync would succeed without the lost pages. */
	assert_true(replica_harden(w.r, 2, NULL) < 0);
	assert_int_equal(replica_disk_failed(w.r, NULL), -EIO);
	world_destroy(&w);
}

static void test_a_full_journal_ends_the_session_but_not_the_takeover(void **state)
{
	struct world w;
	uint8_t *committed[DISKS];
	world_init(&w);
	world_open(&w);
	send_write(&w, 1, 0, 0, 4096, 1);
	struct disk_epoch_sum sum = send_end(&w, 1, false);
	commit(&w, 1, &sum);
	copy_model(&w, committed);
	send_write(&w, 2, 0, 0, 4096, 2);
	sum = send_end(&w, 2, false);
	assert_int_equal(replica_wait(w.r, 2, &sum, soon(), -1, NULL), 0);
	countdown = 0;
	failure = -ENOSPC;
	disk_seam = &failing_writes;
	assert_int_equal(replica_harden(w.r, 2, NULL), -ENOSPC);
	disk_seam = NULL;
	wait_broken(&w);
	assert_int_equal(replica_take(w.r, NULL), 0);
	assert_int_equal(replica_own(w.r, 8, NULL), 0);
	expect_files(&w, committed);
	assert_int_equal(replica_recover(w.journal, w.disks, DISKS, NULL), 0);
	expect_files(&w, committed);
	free_model(committed);
	world_destroy(&w);
}

static void test_a_full_spill_directory_ends_the_session(void **state)
{
	struct world w;
	world_init(&w);
	w.c.budget = 0;
	world_open(&w);
	countdown = 0;
	failure = -ENOSPC;
	disk_seam = &failing_writes;
	send_write(&w, 1, 0, 0, 4096, 1);
	expect_error(&w, w.dir);
	wait_broken(&w);
	disk_seam = NULL;
	world_destroy(&w);
}

static void test_a_failing_synchronisation_is_told(void **state)
{
	struct world w;
	struct replica_state s;
	world_init(&w);
	world_open(&w);
	countdown = 0;
	failure = -EIO;
	disk_seam = &failing_writes;
	send_write(&w, 0, 1, 0, 4096, 1);
	expect_error(&w, w.disks[1].path);
	wait_broken(&w);
	disk_seam = NULL;
	assert_int_equal(replica_state_load(w.state, &s, NULL), 0);
	assert_int_equal(s.trust, REPLICA_SYNCING);
	world_destroy(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_epochs_out_of_sequence_are_refused),
		cmocka_unit_test(test_ranges_beyond_the_disk_are_refused_before_their_data),
		cmocka_unit_test(test_damage_is_refused),
		cmocka_unit_test(test_another_session_or_disk_is_refused),
		cmocka_unit_test(test_a_silent_primary_does_not_hold_the_opening_up),
		cmocka_unit_test(test_the_primary_can_say_why_it_ends),
		cmocka_unit_test(
			a_full_disk_in_the_middle_of_an_epoch_is_final_but_mended_by_the_journal),
		cmocka_unit_test(a_takeover_applies_again_what_the_disk_refused_before),
		cmocka_unit_test(test_a_failing_flush_is_final),
		cmocka_unit_test(test_a_full_journal_ends_the_session_but_not_the_takeover),
		cmocka_unit_test(test_a_full_spill_directory_ends_the_session),
		cmocka_unit_test(test_a_failing_synchronisation_is_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
