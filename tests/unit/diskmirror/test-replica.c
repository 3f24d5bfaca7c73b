/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A replica with a scripted primary: what is in the files, and when. */
#include "tests/unit/diskmirror/fake-primary.h"

#include "diskmirror/replica-state.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static enum replica_trust trust(struct world *w)
{
	struct replica_state s;
	assert_int_equal(replica_state_load(w->state, &s, NULL), 0);
	return s.trust;
}

/* All that was sent so far has been taken: a READ is answered after it. */
static void settled(struct world *w)
{
	uint8_t *p;
	send_message(w, (struct disk_header){.type = DISK_READ, .length = 1}, NULL);
	assert_int_equal(recv_message(w, &p).type, DISK_DATA);
	free(p);
}

static void test_synchronisation_goes_to_the_files_at_once(void **state)
{
	struct world w;
	world_init(&w);
	world_open(&w);
	assert_int_equal(trust(&w), REPLICA_SYNCING);
	send_write(&w, 0, 0, 65536, 65536, 1);
	send_write(&w, 0, 1, SIZE1 - 512, 512, 2);
	send_zero(&w, 0, 0, 65536 + 1000, 100, false);
	settled(&w);
	expect_files(&w, w.model);
	world_destroy(&w);
}

static void test_an_epoch_is_held_until_it_is_applied_as_a_whole(void **state)
{
	struct world w;
	uint8_t *before[DISKS];
	world_init(&w);
	world_open(&w);
	send_write(&w, 0, 0, 0, 4096, 1);
	copy_model(&w, before);
	for (unsigned i = 0; i < 50; i++)
		send_write(&w, 1, 0, i * 4096, 4096, i);
	struct disk_epoch_sum sum = send_end(&w, 1, false);
	assert_int_equal(replica_wait(w.r, 1, &sum, soon(), -1, NULL), 0);
	expect_files(&w, before);
	assert_int_equal(replica_harden(w.r, 1, NULL), 0);
	expect_files(&w, before);
	assert_int_equal(replica_apply(w.r, 1, NULL), 0);
	expect_files(&w, w.model);
	assert_int_equal(trust(&w), REPLICA_SYNCING);
	assert_int_equal(replica_trusted(w.r, NULL), 0);
	assert_int_equal(trust(&w), REPLICA_WHOLE);
	free_model(before);
	world_destroy(&w);
}

static void test_a_cut_drops_what_is_not_committed(void **state)
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
	send_write(&w, 3, 0, 4096, 4096, 3);
	settled(&w);
	replica_cut(w.r);
	replica_cut(w.r); /* once more changes nothing */
	struct replica_stats s;
	replica_get_stats(w.r, &s);
	assert_int_equal(s.held_bytes, 0);
	assert_true(replica_wait(w.r, 2, &sum, soon(), -1, NULL) < 0);
	assert_true(replica_harden(w.r, 2, NULL) < 0);
	assert_true(replica_apply(w.r, 2, NULL) < 0);
	assert_int_equal(replica_take(w.r, NULL), 0);
	assert_int_equal(replica_own(w.r, 8, NULL), 0);
	expect_files(&w, committed);
	assert_int_equal(trust(&w), REPLICA_ACTIVE);
	assert_int_equal(w.broken, 0); /* it was our own doing */
	/* A crash from here on brings nothing of the past back. */
	assert_int_equal(replica_recover(w.journal, w.disks, DISKS, NULL), 0);
	expect_files(&w, committed);
	free_model(committed);
	world_destroy(&w);
}

static void test_a_takeover_has_what_was_hardened(void **state)
{
	struct world w;
	world_init(&w);
	world_open(&w);
	send_write(&w, 1, 0, 0, 4096, 1);
	struct disk_epoch_sum sum = send_end(&w, 1, false);
	assert_int_equal(replica_wait(w.r, 1, &sum, soon(), -1, NULL), 0);
	assert_int_equal(replica_harden(w.r, 1, NULL), 0);
	assert_int_equal(replica_take(w.r, NULL), 0);
	assert_int_equal(replica_own(w.r, 8, NULL), 0);
	expect_files(&w, w.model);
	world_destroy(&w);
}

static void test_no_takeover_of_half_a_synchronisation(void **state)
{
	struct world w;
	struct mc_error err = MC_ERROR_INIT;
	world_init(&w);
	world_open(&w);
	send_write(&w, 0, 0, 0, 4096, 1);
	send_write(&w, 1, 0, 0, 4096, 1);
	settled(&w);
	assert_true(replica_trusted(w.r, NULL) < 0);
	assert_int_equal(replica_take(w.r, &err), -EINVAL);
	assert_string_equal(err.cls, MC_ECLASS_STATE);
	assert_int_equal(trust(&w), REPLICA_SYNCING);
	world_destroy(&w);
}

/* Overlapping writes, zeroes and trims of all sizes: as a byte array does them, one after the
 * other. */
static void against_model(uint64_t budget, unsigned seed, uint64_t max, bool spills)
{
	struct world w;
	world_init(&w);
	w.c.budget = budget;
	w.c.durability = DISK_DURABILITY_FLUSH;
	world_open(&w);
	for (int i = 0; i < 40; i++)
		send_random(&w, 0, &seed, max);
	for (uint64_t n = 1; n <= 12; n++) {
		int ops = rand_r(&seed) % 120;
		for (int i = 0; i < ops; i++)
			send_random(&w, n, &seed, max);
		struct disk_epoch_sum sum = send_end(&w, n, rand_r(&seed) % 2);
		uint8_t *p;
		send_message(&w,
			(struct disk_header){
				.type = DISK_READ, .disk = 1, .offset = 3, .length = SIZE1 - 3},
			NULL);
		struct disk_header h = recv_message(&w, &p);
		assert_int_equal(h.type, DISK_DATA);
		assert_int_equal(h.length, SIZE1 - 3);
		assert_memory_equal(p, w.model[1] + 3, SIZE1 - 3);
		free(p);
		commit(&w, n, &sum);
		expect_files(&w, w.model);
	}
	struct replica_stats s;
	replica_get_stats(w.r, &s);
	assert_int_equal(s.epochs, 12);
	assert_int_equal(s.held_bytes, 0);
	assert_true(s.held_peak <= budget);
	assert_int_equal(s.spilled_bytes > 0, spills);
	world_destroy(&w);
}

static void test_overlapping_writes_keep_their_order(void **state)
{
	for (unsigned i = 0; i < 6; i++) {
		unsigned seed = (unsigned)mc_now() + i;
		print_message("seed %u\n", seed);
		against_model(64 << 20, seed, i % 2 ? 9000 : 700, false);
	}
}

static void test_beyond_the_budget_writes_go_to_a_file_and_keep_their_order(void **state)
{
	unsigned seed = (unsigned)mc_now();
	print_message("seed %u\n", seed);
	against_model(20000, seed, 9000, true);
	against_model(0, seed + 1, 9000, true);
}

static void test_a_running_epoch_comes_while_another_is_applied(void **state)
{
	struct world w;
	world_init(&w);
	world_open(&w);
	struct disk_epoch_sum sums[4];
	send_write(&w, 1, 0, 0, 8192, 1);
	sums[1] = send_end(&w, 1, false);
	send_write(&w, 2, 0, 4096, 8192, 2);
	assert_int_equal(replica_wait(w.r, 1, &sums[1], soon(), -1, NULL), 0);
	assert_int_equal(replica_harden(w.r, 1, NULL), 0);
	/* The primary has its ACK, and goes on before this host has applied anything. */
	sums[2] = send_end(&w, 2, false);
	send_write(&w, 3, 0, 6000, 8192, 3);
	settled(&w);
	assert_int_equal(replica_apply(w.r, 1, NULL), 0);
	commit(&w, 2, &sums[2]);
	sums[3] = send_end(&w, 3, false);
	commit(&w, 3, &sums[3]);
	expect_files(&w, w.model);
	world_destroy(&w);
}

static void test_wait_is_bounded_and_wakes(void **state)
{
	struct world w;
	struct disk_epoch_sum sum = {0};
	world_init(&w);
	world_open(&w);
	send_write(&w, 1, 0, 0, 4096, 1);
	assert_int_equal(replica_wait(w.r, 1, &sum, mc_now() + 30 * MC_MSEC, -1, NULL), -ETIMEDOUT);
	int wake = eventfd(1, EFD_CLOEXEC);
	assert_int_equal(replica_wait(w.r, 1, &sum, soon(), wake, NULL), -EINTR);
	close(wake);
	assert_int_equal(replica_error(w.r, NULL), 0);
	sum = send_end(&w, 1, false);
	sum.digest ^= 1;
	assert_int_equal(replica_wait(w.r, 1, &sum, soon(), -1, NULL), -EBADMSG);
	sum.digest ^= 1;
	assert_int_equal(replica_wait(w.r, 2, &sum, soon(), -1, NULL), -EBADMSG);
	commit(&w, 1, &sum);
	world_destroy(&w);
}

static void test_an_epoch_that_came_whole_outlives_its_link(void **state)
{
	struct world w;
	world_init(&w);
	world_open(&w);
	send_write(&w, 1, 0, 0, 4096, 1);
	struct disk_epoch_sum sum = send_end(&w, 1, false), none = {0};
	/* Not closed: with the table unread that would be a reset, which takes what was sent
	 * along. */
	shutdown(w.fd, SHUT_WR);
	wait_broken(&w);
	commit(&w, 1, &sum);
	expect_files(&w, w.model);
	assert_true(replica_wait(w.r, 2, &none, soon(), -1, NULL) < 0);
	world_destroy(&w);
}

static void test_the_table_tells_what_the_files_hold(void **state)
{
	struct world w;
	world_init(&w);
	for (int pass = 0; pass < 2;
		pass++) { /* new files: holes only; then with data in some blocks */
		world_try(&w, NULL);
		if (pass == 0) {
			send_write(&w, 0, 0, 3 * 65536, 65536, 5);
			send_write(&w, 0, 0, 9 * 65536 + 77, 99, 6);
			send_write(&w, 0, 1, SIZE1 - 100, 100, 7);
		}
		struct disk_hash *hash;
		disk_hash_new((const uint8_t *)"seed of a table", &hash, NULL);
		uint64_t seen = 0;
		while (seen < 16 + 6) {
			uint8_t head[DISK_HEADER_SIZE], entries[64 * DISK_DIGEST_SIZE],
				want[DISK_DIGEST_SIZE];
			struct disk_header h;
			assert_int_equal(recv(w.fd, head, sizeof head, MSG_WAITALL), sizeof head);
			assert_int_equal(disk_get_header(head, &h, NULL), 0);
			if (h.type == DISK_HELLO_OK)
				continue;
			assert_int_equal(h.type, DISK_TABLE);
			assert_int_equal(recv(w.fd, entries, h.length, MSG_WAITALL), h.length);
			for (uint64_t k = 0; k < h.length / DISK_DIGEST_SIZE; k++, seen++) {
				uint64_t at = h.offset + k * DISK_BLOCK,
					 left = disk_size[h.disk] - at;
				disk_hash_block(hash, w.model[h.disk] + at,
					left < DISK_BLOCK ? left : DISK_BLOCK, want);
				if (pass == 1)
					assert_memory_equal(
						entries + k * DISK_DIGEST_SIZE, want, sizeof want);
			}
		}
		settled(&w);
		disk_hash_free(hash);
		world_close(&w);
	}
	world_destroy(&w);
}

static void test_what_was_active_later_is_not_overwritten(void **state)
{
	struct world w;
	struct mc_error err = MC_ERROR_INIT;
	world_init(&w);
	struct replica_state s = {REPLICA_ACTIVE, GENERATION + 1, "beta", ""};
	replica_state_save(w.state, &s, NULL);
	assert_int_equal(world_try(&w, &err), -ESTALE);
	expect_error(&w, "generation 8");
	assert_int_equal(trust(&w), REPLICA_ACTIVE);
	close(w.fd);
	s.generation = GENERATION - 1;
	replica_state_save(w.state, &s, NULL);
	world_open(&w);
	assert_int_equal(trust(&w), REPLICA_SYNCING);
	world_destroy(&w);
}

static void test_a_file_of_another_size_is_refused_by_name(void **state)
{
	struct world w;
	struct mc_error err = MC_ERROR_INIT;
	world_init(&w);
	FILE *f = fopen(w.disks[0].path, "w");
	fputs("something of the administrator's", f);
	fclose(f);
	assert_int_equal(world_try(&w, &err), -EINVAL);
	assert_string_equal(err.cls, MC_ECLASS_CONFIG);
	assert_non_null(strstr(err.msg, w.disks[0].path));
	assert_non_null(strstr(err.msg, "32 bytes"));
	assert_non_null(strstr(err.msg, "1048576"));
	expect_error(&w, "1048576");
	assert_int_equal(trust(&w), REPLICA_NONE); /* nothing was touched */
	world_destroy(&w);
}

static void test_two_disks_in_one_file_are_refused(void **state)
{
	struct world w;
	struct mc_error err = MC_ERROR_INIT;
	world_init(&w);
	FILE *f = fopen(w.disks[1].path, "w");
	assert_int_equal(ftruncate(fileno(f), SIZE0), 0);
	fclose(f);
	strcpy(w.disks[0].path, w.disks[1].path);
	assert_int_equal(world_try(&w, &err), -EINVAL);
	world_destroy(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_synchronisation_goes_to_the_files_at_once),
		cmocka_unit_test(test_an_epoch_is_held_until_it_is_applied_as_a_whole),
		cmocka_unit_test(test_a_cut_drops_what_is_not_committed),
		cmocka_unit_test(test_a_takeover_has_what_was_hardened),
		cmocka_unit_test(test_no_takeover_of_half_a_synchronisation),
		cmocka_unit_test(test_overlapping_writes_keep_their_order),
		cmocka_unit_test(test_beyond_the_budget_writes_go_to_a_file_and_keep_their_order),
		cmocka_unit_test(test_a_running_epoch_comes_while_another_is_applied),
		cmocka_unit_test(test_wait_is_bounded_and_wakes),
		cmocka_unit_test(test_an_epoch_that_came_whole_outlives_its_link),
		cmocka_unit_test(test_the_table_tells_what_the_files_hold),
		cmocka_unit_test(test_what_was_active_later_is_not_overwritten),
		cmocka_unit_test(test_a_file_of_another_size_is_refused_by_name),
		cmocka_unit_test(test_two_disks_in_one_file_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
