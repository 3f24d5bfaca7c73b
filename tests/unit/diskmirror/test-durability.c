/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Power failures at every step of the standby.  Of each file there is what fdatasync has made
 * durable, and what was written since.  A power failure leaves, for every sector on its own, one or
 * the other.  From that replica_recover must make what the durability promises.
 */
#include "tests/unit/diskmirror/fake-primary.h"

#include "common/cleanup.h"
#include "diskmirror/seam.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#define FILES  (DISKS + 1) /* the disks and the journal */
#define EPOCHS 10
#define SECTOR 512

struct content {
	uint8_t *b;
	uint64_t size;
};

static struct world w;
static struct content durable[FILES];
static uint8_t *image[EPOCHS + 1][DISKS]; /* the guest's disks at the end of each epoch */
static uint64_t hardened, hardening,
	applied; /* hardening: the epoch whose harden is going on, or 0 */
static bool armed, exact;
static pthread_t vm_thread;
static unsigned seed, crashes, syncs;
static int crash_one_in;

static const char *path_of(int i)
{
	return i < DISKS ? w.disks[i].path : w.journal;
}

/* Which of our files fd is; -1: another, such as the spill file. */
static int which(int fd)
{
	struct stat a, b;
	assert_int_equal(fstat(fd, &a), 0);
	for (int i = 0; i < FILES; i++)
		if (stat(path_of(i), &b) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev)
			return i;
	return -1;
}

static void leave(const struct content *now, const struct content *then, const char *path)
{
	/* The size is as uncertain as the rest. */
	uint64_t size = rand_r(&seed) % 2 ? now->size : then->size;
	int bias = rand_r(&seed) % 4; /* all old, all new, or a mixture */
	uint8_t *b = calloc(1, size + 1);
	for (uint64_t at = 0; at < size; at += SECTOR) {
		bool new = bias == 0 ? false : bias == 1 ? true : rand_r(&seed) % 2;
		const struct content *c = new ? now : then;
		uint64_t n = size - at < SECTOR ? size - at : SECTOR;
		uint64_t there = c->size > at ? c->size - at : 0;
		memcpy(b + at, c->b + at, there < n ? there : n);
	}
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, b, size), size);
	free(b);
}

static bool same(uint64_t n, const struct content *got)
{
	for (int i = 0; i < DISKS; i++)
		if (memcmp(image[n][i], got[i].b, disk_size[i]))
			return false;
	return true;
}

/* Durability `flush`: sector by sector the last hardened epoch or a later one that was applied. */
static bool possible(const struct content *got)
{
	uint64_t last = hardening ? hardening : applied > hardened ? applied : hardened;
	for (int i = 0; i < DISKS; i++)
		for (uint64_t at = 0; at < disk_size[i]; at += SECTOR) {
			bool found = false;
			for (uint64_t n = hardened; n <= last && !found; n++)
				found = !memcmp(image[n][i] + at, got[i].b + at, SECTOR);
			if (!found)
				return false;
		}
	return true;
}

static void power_failure(void)
{
	struct replica_disk disks[DISKS];
	struct content got[DISKS];
	struct mc_error err = MC_ERROR_INIT;
	char journal[200];
	armed = false; /* what follows is another host's life */
	memcpy(disks, w.disks, sizeof disks);
	snprintf(journal, sizeof journal, "%s.crashed", w.journal);
	for (int i = 0; i < FILES; i++) {
		struct content now;
		now.b = file_content(path_of(i), &now.size);
		if (i < DISKS)
			snprintf(
				disks[i].path, sizeof disks[i].path, "%s.crashed", w.disks[i].path);
		leave(&now, &durable[i], i < DISKS ? disks[i].path : journal);
		free(now.b);
	}
	if (replica_recover(journal, disks, DISKS, &err) < 0)
		fail_msg("%s", err.msg);
	for (int i = 0; i < DISKS; i++) {
		got[i].b = file_content(disks[i].path, &got[i].size);
		assert_int_equal(got[i].size, disk_size[i]);
	}
	if (exact ? !same(hardened, got) && !(hardening && same(hardening, got)) : !possible(got))
		fail_msg("after a power failure with epoch %llu hardened and %llu applied there is "
			 "something else",
			(unsigned long long)hardened, (unsigned long long)applied);
	/* Once more, as if power had failed again at the end of it. */
	assert_int_equal(replica_recover(journal, disks, DISKS, &err), 0);
	for (int i = 0; i < DISKS; i++) {
		free(got[i].b);
		unlink(disks[i].path);
	}
	unlink(journal);
	crashes++;
	armed = true;
}

static void maybe(void)
{
	if (armed && pthread_equal(pthread_self(), vm_thread) &&
		rand_r(&seed) % (unsigned)crash_one_in == 0)
		power_failure();
}

static int forgetting_sync(int fd)
{
	if (!armed)
		return 0;
	maybe();
	int i = which(fd);
	if (i >= 0) {
		free(durable[i].b);
		durable[i].b = file_content(path_of(i), &durable[i].size);
	}
	__atomic_add_fetch(&syncs, 1, __ATOMIC_SEQ_CST);
	maybe();
	return 0;
}

static int before_write(int fd, uint64_t off, uint64_t len)
{
	if (exact) /* else the middle of an epoch is a sector that no epoch ended with */
		maybe();
	return 0;
}

static const struct disk_seam forgetting = {forgetting_sync, before_write};

static void remember_image(uint64_t n)
{
	copy_model(&w, image[n]);
}

static void begin(enum disk_durability d, uint64_t budget)
{
	seed = (unsigned)mc_now();
	print_message("seed %u\n", seed);
	vm_thread = pthread_self();
	world_init(&w);
	w.c.durability = d;
	w.c.budget = budget;
	w.align = d == DISK_DURABILITY_COMMIT ? 0 : SECTOR; /* what a disk writes as a whole */
	exact = d == DISK_DURABILITY_COMMIT;
	armed = false;
	crashes = syncs = 0;
	hardened = hardening = applied = 0;
	crash_one_in = 3;
	disk_seam = &forgetting;
	world_open(&w);
	for (int i = 0; i < FILES; i++)
		durable[i].b = file_content(path_of(i), &durable[i].size);
	for (int i = 0; i < 30; i++)
		send_random(&w, 0, &seed, 9000);
}

static void end(void)
{
	armed = false;
	disk_seam = NULL;
	for (uint64_t n = 0; n <= EPOCHS; n++) {
		free_model(image[n]);
		memset(image[n], 0, sizeof image[n]);
	}
	for (int i = 0; i < FILES; i++)
		free(durable[i].b);
	world_destroy(&w);
}

/* One epoch; power may fail anywhere in it from the first hardened one on. */
static void epoch(uint64_t n, int ops, bool flushed)
{
	struct mc_error err = MC_ERROR_INIT;
	for (int i = 0; i < ops; i++)
		send_random(&w, n, &seed, 3000);
	remember_image(n);
	struct disk_epoch_sum sum = send_end(&w, n, flushed);
	assert_int_equal(replica_wait(w.r, n, &sum, soon(), -1, NULL), 0);
	bool hard = w.c.durability == DISK_DURABILITY_COMMIT ||
		    (w.c.durability == DISK_DURABILITY_FLUSH && flushed);
	bool first = !hardened;
	armed = true;
	int one_in = crash_one_in;
	if (first) /* nothing is promised yet */
		crash_one_in = 1 << 30;
	hardening = hard ? n : 0;
	if (replica_harden(w.r, n, &err) < 0)
		fail_msg("%s", err.msg);
	crash_one_in = one_in;
	hardening = 0;
	if (hard)
		hardened = n;
	if (hardened)
		power_failure();
	if (exact) {
		if (replica_apply(w.r, n, &err) < 0)
			fail_msg("%s", err.msg);
		applied = n;
		power_failure();
	} else {
		applied = n; /* while it is applied some of it is there */
		if (replica_apply(w.r, n, &err) < 0)
			fail_msg("%s", err.msg);
		if (hardened)
			power_failure();
	}
	armed = false;
}

static void commit_a_power_failure_anywhere_leaves_exactly_the_last_hardened_epoch(void **state)
{
	for (int round = 0; round < 4; round++) {
		begin(DISK_DURABILITY_COMMIT, round % 2 ? 5000 : 1 << 20);
		for (uint64_t n = 1; n <= EPOCHS; n++)
			epoch(n, n == 1 || rand_r(&seed) % 4 == 0 ? 0 : (int)(rand_r(&seed) % 25),
				rand_r(&seed) % 2);
		print_message("%u power failures\n", crashes);
		assert_true(crashes > 2 * EPOCHS);
		end();
	}
}

static void test_flush_what_the_guest_flushed_survives_and_nothing_older_returns(void **state)
{
	for (int round = 0; round < 4; round++) {
		begin(DISK_DURABILITY_FLUSH, 1 << 20);
		for (uint64_t n = 1; n <= EPOCHS; n++)
			epoch(n, rand_r(&seed) % 4 == 0 ? 0 : (int)(rand_r(&seed) % 25),
				rand_r(&seed) % 3 == 0);
		print_message("%u power failures\n", crashes);
		end();
	}
}

static unsigned syncs_of(enum disk_durability d, bool flushed)
{
	begin(d, 1 << 20);
	crash_one_in = 1 << 30;
	epoch(1, 5, true);
	syncs = 0;
	epoch(2, 5, flushed);
	unsigned n = syncs;
	end();
	return n;
}

static void test_flushes_are_as_many_as_the_durability_asks_for(void **state)
{
	assert_true(syncs_of(DISK_DURABILITY_COMMIT, false) > 0);
	assert_true(syncs_of(DISK_DURABILITY_FLUSH, true) > 0);
	assert_int_equal(syncs_of(DISK_DURABILITY_FLUSH, false), 0);
	assert_int_equal(syncs_of(DISK_DURABILITY_NONE, true), 0);
}

/* The VM writes after a takeover: no later power failure may bring an epoch of before back. */
static void test_after_a_takeover_the_past_does_not_return(void **state)
{
	begin(DISK_DURABILITY_COMMIT, 1 << 20);
	for (uint64_t n = 1; n <= 3; n++)
		epoch(n, 20, false);
	armed = true;
	crash_one_in = 1;
	assert_int_equal(replica_take(w.r, NULL), 0);
	assert_int_equal(replica_own(w.r, 8, NULL), 0);
	crash_one_in = 1 << 30;
	armed = false;
	/* The VM's own writes, flushed. */
	for (int i = 0; i < DISKS; i++) {
		_cleanup_close_ int fd = open(w.disks[i].path, O_WRONLY | O_CLOEXEC);
		memset(image[3][i], 0x77, disk_size[i]);
		assert_int_equal(pwrite(fd, image[3][i], disk_size[i], 0), disk_size[i]);
		free(durable[i].b);
		durable[i].b = file_content(path_of(i), &durable[i].size);
	}
	for (int i = 0; i < 10; i++)
		power_failure();
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			commit_a_power_failure_anywhere_leaves_exactly_the_last_hardened_epoch),
		cmocka_unit_test(
			test_flush_what_the_guest_flushed_survives_and_nothing_older_returns),
		cmocka_unit_test(test_flushes_are_as_many_as_the_durability_asks_for),
		cmocka_unit_test(test_after_a_takeover_the_past_does_not_return),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
