/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A voter's memory survives what disks do to writes, and says so when it did not. */
#include "failover/record.h"
#include "tests/unit/dies.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_SIZE 8192
#define USED      512

static char dir[] = "/tmp/mcd-test-record-XXXXXX";
static int dir_fd;

static const struct paxos_acceptor first = {
	.decided = {4, "hostA", "hostB"},
	.promised = {3, 1},
};
static const struct paxos_acceptor second = {
	.decided = {4, "hostA", "hostB"},
	.promised = {9, 2},
	.accepted = {9, 2},
	.value = {5, "hostB", ""},
	.list = 3,
};

static bool same(const struct paxos_acceptor *a, const struct paxos_acceptor *b)
{
	return own_record_equal(&a->decided, &b->decided) &&
	       own_record_equal(&a->value, &b->value) &&
	       !ballot_compare(&a->promised, &b->promised) &&
	       !ballot_compare(&a->accepted, &b->accepted) && a->list == b->list;
}

static int load(const char *host, struct paxos_acceptor *ret, struct mc_error *err)
{
	struct record_file f;
	int r = record_open(dir_fd, host, "vm1", &f, ret, err);
	if (r >= 0)
		record_close(&f);
	return r;
}

static void get_file(uint8_t p[FILE_SIZE])
{
	int fd = openat(dir_fd, "vm1", O_RDONLY);
	assert_int_equal(pread(fd, p, FILE_SIZE, 0), FILE_SIZE);
	close(fd);
}

static void put_file(const uint8_t *p, size_t len)
{
	int fd = openat(dir_fd, "vm1", O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(pwrite(fd, p, len, 0), (ssize_t)len);
	close(fd);
}

/* File images before and after the write of `second`, and where the new slot is. */
static size_t images(uint8_t before[FILE_SIZE], uint8_t after[FILE_SIZE])
{
	struct record_file f;
	struct paxos_acceptor a;
	unlinkat(dir_fd, "vm1", 0);
	assert_int_equal(record_open(dir_fd, "hostA", "vm1", &f, &a, NULL), 0);
	assert_int_equal(record_write(dir_fd, &f, &first, NULL), 0);
	assert_int_equal(record_write(dir_fd, &f, &first, NULL), 0);
	get_file(before);
	assert_int_equal(record_write(dir_fd, &f, &second, NULL), 0);
	get_file(after);
	size_t at = (size_t)f.current * FILE_SIZE / 2;
	record_close(&f);
	assert_memory_equal(before + (at ? 0 : 4096), after + (at ? 0 : 4096), 4096);
	return at;
}

static void test_what_is_written_is_read(void **state)
{
	struct paxos_acceptor a;
	struct record_file f;
	struct stat st;
	unlinkat(dir_fd, "vm1", 0);
	assert_int_equal(load("hostA", &a, NULL), 0);
	assert_true(same(&a, &(struct paxos_acceptor){0}));
	/* Asking makes no file: the first vote does. */
	assert_int_equal(fstatat(dir_fd, "vm1", &st, 0), -1);
	for (int i = 0; i < 20; i++) {
		int r = record_open(dir_fd, "hostA", "vm1", &f, &a, NULL);
		assert_int_equal(r, i > 0);
		const struct paxos_acceptor *next = i % 3 ? &first : &second;
		assert_int_equal(record_write(dir_fd, &f, next, NULL), 0);
		record_close(&f);
		assert_int_equal(load("hostA", &a, NULL), 1);
		assert_true(same(&a, next));
	}
	assert_int_equal(fstatat(dir_fd, "vm1", &st, 0), 0);
	assert_int_equal(st.st_size, FILE_SIZE);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void test_a_write_torn_at_any_byte_leaves_the_record_before(void **state)
{
	uint8_t before[FILE_SIZE], after[FILE_SIZE], torn[FILE_SIZE];
	size_t at = images(before, after);
	struct paxos_acceptor a;
	for (size_t cut = 0; cut <= USED; cut++)
		for (int backwards = 0; backwards < 2; backwards++) {
			memcpy(torn, before, FILE_SIZE);
			if (backwards)
				memcpy(torn + at + USED - cut, after + at + USED - cut, cut);
			else
				memcpy(torn + at, after + at, cut);
			put_file(torn, FILE_SIZE);
			assert_int_equal(load("hostA", &a, NULL), 1);
			bool whole = !memcmp(torn + at, after + at, USED);
			assert_true(same(&a, whole ? &second : &first));
			/* ... and goes on from there. */
			assert_int_equal(load("hostA", &a, NULL), 1);
			assert_true(same(&a, whole ? &second : &first));
		}
}

static void test_damage_never_makes_a_third_state(void **state)
{
	uint8_t before[FILE_SIZE], after[FILE_SIZE], bad[FILE_SIZE];
	size_t at = images(before, after);
	struct paxos_acceptor a;
	srand(1);
	for (int i = 0; i < 600; i++) {
		memcpy(bad, after, FILE_SIZE);
		bad[at + (size_t)i % USED] ^= (uint8_t)(1 << rand() % 8);
		put_file(bad, FILE_SIZE);
		assert_int_equal(load("hostA", &a, NULL), 1);
		assert_true(same(&a, &first));
	}
}

static void test_a_file_without_any_whole_record_is_not_a_fresh_start(void **state)
{
	uint8_t before[FILE_SIZE], after[FILE_SIZE];
	size_t lengths[] = {0, 1, 511, FILE_SIZE};
	struct paxos_acceptor a = {.promised = {77, 1}};
	struct mc_error err = MC_ERROR_INIT;
	images(before, after);
	memset(after, 0, FILE_SIZE);
	for (size_t i = 0; i < 4; i++) {
		put_file(after, lengths[i]);
		assert_int_equal(load("hostA", &a, &err), -EUCLEAN);
		assert_non_null(strstr(err.msg, "damaged"));
		assert_int_equal(a.promised.round, 77);
	}
}

static void test_another_hosts_memory_is_refused(void **state)
{
	uint8_t before[FILE_SIZE], after[FILE_SIZE];
	struct paxos_acceptor a;
	struct mc_error err = MC_ERROR_INIT;
	images(before, after);
	assert_int_equal(load("hostB", &a, &err), -EUCLEAN);
	assert_non_null(strstr(err.msg, "copied"));
	assert_non_null(strstr(err.msg, "hostA"));
	/* Nothing was changed by looking. */
	assert_int_equal(load("hostA", &a, NULL), 1);
	assert_true(same(&a, &second));
}

/* What version 1 had: places in a list in place of hosts. */
static void test_a_file_of_version_1_is_read_as_of_unknown_hosts(void **state)
{
	uint8_t before[FILE_SIZE], after[FILE_SIZE];
	struct paxos_acceptor a;
	struct mc_error err = MC_ERROR_INIT;
	for (unsigned place = 1; place <= VOTERS_MAX + 1; place++) {
		size_t at = images(before, after);
		uint8_t *p = after + at;
		p[9] = 1;
		memset(p + 288, 0, 32);
		memset(p + 456, 0, 8);
		p[288 + 7] = p[304 + 7] = 9; /* round */
		p[288 + 8] = p[304 + 8] = (uint8_t)place;
		assert_int_equal(gnutls_hash_fast(GNUTLS_DIG_SHA256, p, 480, p + 480), 0);
		put_file(after, FILE_SIZE);
		assert_int_equal(load("hostA", &a, &err), 1);
		if (place > VOTERS_MAX) {
			assert_true(same(&a, &first)); /* no such place: not a whole record */
			continue;
		}
		struct ballot unknown = {9, BALLOT_BY_PLACE(place)};
		assert_true(ballot_unknown(&a.promised) && ballot_unknown(&a.accepted));
		assert_int_equal(ballot_compare(&a.promised, &unknown), 0);
		assert_int_equal(ballot_compare(&a.accepted, &unknown), 0);
		assert_int_equal(a.list, 0);
		assert_true(own_record_equal(&a.value, &second.value));
		/* It has been written anew, in the version of today. */
		get_file(before);
		assert_int_equal(before[(at ? 0 : 4096) + 9], 2);
		assert_int_equal(load("hostA", &a, &err), 1);
		assert_int_equal(ballot_compare(&a.accepted, &unknown), 0);
	}
}

static void test_a_version_of_tomorrow_is_refused(void **state)
{
	uint8_t before[FILE_SIZE], after[FILE_SIZE];
	struct paxos_acceptor a;
	struct mc_error err = MC_ERROR_INIT;
	uint8_t *p = after + images(before, after);
	p[9] = 3;
	assert_int_equal(gnutls_hash_fast(GNUTLS_DIG_SHA256, p, 480, p + 480), 0);
	put_file(after, FILE_SIZE);
	assert_int_equal(load("hostA", &a, &err), -EPROTONOSUPPORT);
	assert_non_null(strstr(err.msg, "another version"));
}

static void test_a_crash_before_the_first_rename_leaves_nothing(void **state)
{
	struct paxos_acceptor a;
	unlinkat(dir_fd, "vm1", 0);
	int fd = openat(dir_fd, ".vm1.new", O_WRONLY | O_CREAT, 0600);
	assert_int_equal(write(fd, "half", 4), 4);
	close(fd);
	assert_int_equal(load("hostA", &a, NULL), 0);
	struct record_file f;
	assert_int_equal(record_open(dir_fd, "hostA", "vm1", &f, &a, NULL), 0);
	assert_int_equal(record_write(dir_fd, &f, &first, NULL), 0);
	record_close(&f);
	assert_int_equal(load("hostA", &a, NULL), 1);
	assert_int_equal(faccessat(dir_fd, ".vm1.new", F_OK, 0), -1);
}

static void test_a_disk_that_refuses_is_an_error(void **state)
{
	struct record_file f;
	struct paxos_acceptor a;
	struct mc_error err = MC_ERROR_INIT;
	uint8_t before[FILE_SIZE], after[FILE_SIZE];
	images(before, after);
	assert_int_equal(record_open(dir_fd, "hostA", "vm1", &f, &a, NULL), 1);
	close(f.fd);
	f.fd = openat(dir_fd, "vm1", O_RDONLY);
	assert_true(record_write(dir_fd, &f, &first, &err) < 0);
	assert_non_null(strstr(err.msg, "vm1"));
	record_close(&f);
	assert_int_equal(load("hostA", &a, NULL), 1);
	assert_true(same(&a, &second));
}

static void write_below_the_promise(void *f)
{
	struct paxos_acceptor state = second;
	state.promised.round--;
	record_write(dir_fd, f, &state, NULL);
}
static void write_for_another_generation(void *f)
{
	struct paxos_acceptor state = second;
	state.value.generation++;
	record_write(dir_fd, f, &state, NULL);
}

static void test_what_no_voter_may_remember_is_not_written(void **state)
{
	struct record_file f;
	struct paxos_acceptor a;
	unlinkat(dir_fd, "vm1", 0);
	assert_int_equal(record_open(dir_fd, "hostA", "vm1", &f, &a, NULL), 0);
	assert_int_equal(record_write(dir_fd, &f, &second, NULL), 0);
	assert_true(dies(write_below_the_promise, &f));
	assert_true(dies(write_for_another_generation, &f));
	record_close(&f);
	assert_int_equal(load("hostA", &a, NULL), 1);
	assert_true(same(&a, &second));
}

int main(void)
{
	if (!mkdtemp(dir) || (dir_fd = open(dir, O_RDONLY | O_DIRECTORY)) < 0) {
		perror(dir);
		return 1;
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_written_is_read),
		cmocka_unit_test(test_a_write_torn_at_any_byte_leaves_the_record_before),
		cmocka_unit_test(test_damage_never_makes_a_third_state),
		cmocka_unit_test(test_a_file_without_any_whole_record_is_not_a_fresh_start),
		cmocka_unit_test(test_another_hosts_memory_is_refused),
		cmocka_unit_test(test_a_file_of_version_1_is_read_as_of_unknown_hosts),
		cmocka_unit_test(test_a_version_of_tomorrow_is_refused),
		cmocka_unit_test(test_a_crash_before_the_first_rename_leaves_nothing),
		cmocka_unit_test(test_a_disk_that_refuses_is_an_error),
		cmocka_unit_test(test_what_no_voter_may_remember_is_not_written),
	};
	int r = cmocka_run_group_tests(tests, NULL, NULL);
	unlinkat(dir_fd, "vm1", 0);
	rmdir(dir);
	return r;
}
