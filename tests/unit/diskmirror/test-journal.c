/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A journal gives back all of a sealed epoch or nothing, whatever happened to its file. */
#include "diskmirror/journal.h"

#include "common/cleanup.h"
#include "diskmirror/seam.h"
#include "diskmirror/stream.h"
#include "tests/unit/dies.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char path[64];
static const char *const ids[2] = {"root", "data"};

static int setup(void **state)
{
	char dir[] = "/tmp/mcd-journal-XXXXXX";
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/journal", dir);
	return 0;
}

static int teardown(void **state)
{
	disk_seam = NULL;
	unlink(path);
	*strrchr(path, '/') = '\0';
	return rmdir(path);
}

/* What a replay handed out, as one number; the disk by name. */
struct seen {
	unsigned entries;
	uint64_t hash;
	int fail_at;
};

static void mix(uint64_t *h, const void *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		*h = (*h ^ ((const uint8_t *)p)[i]) * 0x100000001b3ull;
}

static int see(void *ctx, const struct journal_entry *e, struct mc_error *err)
{
	struct seen *s = ctx;
	uint64_t v[3] = {e->type, e->offset, e->length};
	if ((int)++s->entries == s->fail_at)
		return mc_error_set(err, -EIO, MC_ECLASS_FAILED, "the test says so");
	mix(&s->hash, &e->disk, sizeof e->disk);
	mix(&s->hash, v, sizeof v);
	if (e->data)
		mix(&s->hash, e->data, e->length);
	return 0;
}

static uint8_t data[5000];

static void add(
	struct journal *j, struct seen *s, uint16_t disk, uint16_t type, uint64_t off, uint64_t len)
{
	struct journal_entry e = {disk, type, off, len, type == DISK_WRITE ? data : NULL};
	assert_int_equal(journal_add(j, &e, NULL), 0);
	see(s, &e, NULL);
}

static void some_entries(struct journal *j, struct seen *s, uint8_t fill)
{
	memset(data, fill, sizeof data);
	add(j, s, 0, DISK_WRITE, 0, 300);
	add(j, s, 1, DISK_ZERO, 4096, 1ull << 40);
	add(j, s, 1, DISK_WRITE, 77, 1);
	add(j, s, 0, DISK_TRIM, 512, 512);
}

static struct seen seal(struct journal *j, uint64_t n, uint8_t fill)
{
	struct seen s = {0};
	assert_int_equal(journal_begin(j, 7, n, NULL), 0);
	some_entries(j, &s, fill);
	assert_int_equal(journal_seal(j, NULL), 0);
	return s;
}

static struct journal *open_journal(void)
{
	struct journal *j;
	struct mc_error err = MC_ERROR_INIT;
	if (journal_open(path, ids, 2, &j, &err) < 0)
		fail_msg("%s", err.msg);
	return j;
}

static uint64_t replay(struct seen *s, int want)
{
	struct journal_mark mark = {99, 99};
	*s = (struct seen){0};
	assert_int_equal(journal_replay(path, ids, 2, see, s, &mark, NULL), want);
	if (want == 0 && mark.epoch)
		assert_int_equal(mark.generation, 7);
	return mark.epoch;
}

static void test_a_sealed_epoch_comes_back(void **state)
{
	struct journal *j = open_journal();
	struct seen in = seal(j, 5, 'a'), out;
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	for (int i = 0; i < 2; i++) { /* any number of times */
		assert_int_equal(replay(&out, 0), 5);
		assert_memory_equal(&in, &out, sizeof in);
	}
	in = seal(j, 6, 'b');
	assert_int_equal(replay(&out, 0), 6);
	assert_memory_equal(&in, &out, sizeof in);
	journal_close(j);
}

static void test_large_entries_come_back(void **state)
{
	struct journal *j = open_journal();
	struct seen in = {0}, out;
	_cleanup_free_ uint8_t *large = malloc(DISK_DATA_MAX);
	for (size_t i = 0; i < DISK_DATA_MAX; i++)
		large[i] = (uint8_t)(i * 7 >> 3);
	assert_int_equal(journal_begin(j, 7, 5, NULL), 0);
	static const uint64_t sizes[] = {
		1, (1 << 20) - 1, 1 << 20, DISK_DATA_MAX, 3, (1 << 20) + 1};
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		struct journal_entry e = {0, DISK_WRITE, i << 30, sizes[i], large};
		assert_int_equal(journal_add(j, &e, NULL), 0);
		see(&in, &e, NULL);
	}
	assert_int_equal(journal_seal(j, NULL), 0);
	journal_close(j);
	assert_int_equal(replay(&out, 0), 5);
	assert_memory_equal(&in, &out, sizeof in);
}

static void test_none_before_a_seal_and_after_a_clear(void **state)
{
	struct seen s;
	assert_int_equal(replay(&s, 0), 0); /* no file */
	struct journal *j = open_journal();
	assert_int_equal(replay(&s, 0), 0);
	assert_int_equal(journal_begin(j, 7, 1, NULL), 0);
	some_entries(j, &(struct seen){0}, 'a');
	assert_int_equal(replay(&s, 0), 0);
	assert_int_equal(journal_seal(j, NULL), 0);
	assert_int_equal(replay(&s, 0), 1);
	assert_int_equal(journal_clear(j, NULL), 0);
	assert_int_equal(replay(&s, 0), 0);
	assert_int_equal(s.entries, 0);
	seal(j, 2, 'b');
	assert_int_equal(replay(&s, 0), 2);
	journal_close(j);
}

/* SIGKILL between begin and seal: of the new epoch nothing comes back.  The one before may, until
 * it begins to be overwritten: it is in the files already. */
static void killed_after(int adds, uint64_t expect)
{
	struct journal *j = open_journal();
	struct seen in = seal(j, 1, 'a'), out;
	journal_close(j);
	pid_t pid = fork();
	if (!pid) {
		j = open_journal();
		journal_begin(j, 7, 2, NULL);
		for (int i = 0; i < adds; i++)
			some_entries(j, &out, 'b');
		kill(getpid(), SIGKILL);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(replay(&out, 0), expect);
	if (expect)
		assert_memory_equal(&in, &out, sizeof in);
	else
		assert_int_equal(out.entries, 0);
}

static void test_a_kill_between_begin_and_seal_gives_no_part(void **state)
{
	killed_after(1, 1);
	killed_after(5000, 0); /* more than is buffered */
}

static uint8_t *contents(size_t *ret_len)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	*ret_len = (size_t)lseek(fd, 0, SEEK_END);
	uint8_t *b = malloc(*ret_len);
	assert_int_equal(pread(fd, b, *ret_len, 0), *ret_len);
	return b;
}

static void put(const uint8_t *b, size_t len)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	assert_int_equal(write(fd, b, len), len);
}

static void all_or_nothing(const struct seen *in, bool *ret_all)
{
	struct seen out = {0};
	struct journal_mark mark = {0};
	int r = journal_replay(path, ids, 2, see, &out, &mark, NULL);
	assert_true(r == 0 || r == -EBADMSG);
	*ret_all = r == 0 && mark.epoch;
	if (*ret_all)
		assert_memory_equal(in, &out, sizeof out);
	else
		assert_int_equal(out.entries, 0);
}

static void test_every_truncation_gives_all_or_nothing(void **state)
{
	struct journal *j = open_journal();
	struct seen in = seal(j, 5, 'a');
	journal_close(j);
	size_t len;
	bool all;
	_cleanup_free_ uint8_t *b = contents(&len);
	for (size_t n = 0; n <= len; n++) {
		put(b, n);
		all_or_nothing(&in, &all);
		assert_int_equal(all, n == len);
	}
}

static void test_every_bit_flip_gives_all_or_nothing(void **state)
{
	struct journal *j = open_journal();
	struct seen in = seal(j, 5, 'a');
	journal_close(j);
	size_t len, survived = 0;
	_cleanup_free_ uint8_t *b = contents(&len);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	for (size_t bit = 0; bit < 8 * len; bit++) {
		if (bit / 8 == 128) /* the rest of the header's block has no meaning */
			bit = 8 * 4096;
		uint8_t x = b[bit / 8] ^ (uint8_t)(1 << bit % 8);
		bool all;
		assert_int_equal(pwrite(fd, &x, 1, (off_t)(bit / 8)), 1);
		all_or_nothing(&in, &all);
		survived += all;
		assert_int_equal(pwrite(fd, &b[bit / 8], 1, (off_t)(bit / 8)), 1);
	}
	close(fd);
	assert_int_equal(survived, 8 * (128 - 72)); /* those that mean nothing */
}

/* Power fails at a seal: any mixture, by sector, of the file before and after. */
static void test_every_mixture_of_two_epochs_gives_one_of_them_or_nothing(void **state)
{
	struct journal *j = open_journal();
	struct seen first = seal(j, 5, 'a');
	size_t len, len2;
	_cleanup_free_ uint8_t *a = contents(&len), *mixed = malloc(len);
	struct seen second = seal(j, 6, 'b');
	journal_close(j);
	_cleanup_free_ uint8_t *b = contents(&len2);
	assert_int_equal(len, len2);
	for (unsigned i = 0; i < 16; i++) { /* header, and the sectors of the body */
		memcpy(mixed, a, len);
		for (size_t at = 0; at < len; at += 512) {
			unsigned sector = at < 4096 ? 0 : 1 + (unsigned)(at - 4096) / 512;
			size_t n = len - at < 512 ? len - at : 512;
			if (i >> (sector > 3 ? 3 : sector) & 1)
				memcpy(mixed + at, b + at, n);
		}
		put(mixed, len);
		struct seen out;
		uint64_t epoch = replay(&out, 0);
		if (epoch)
			assert_memory_equal(epoch == 6 ? &second : &first, &out, sizeof out);
		assert_int_equal(epoch == 6, !memcmp(mixed, b, len));
	}
}

static void test_something_else_is_no_journal_and_is_left_alone(void **state)
{
	struct seen out;
	FILE *f = fopen(path, "w");
	fputs("a letter of the administrator's", f);
	fclose(f);
	replay(&out, -EBADMSG);
}

static void test_a_disk_that_is_gone_is_an_error_and_the_order_is_none(void **state)
{
	struct journal *j = open_journal();
	struct seen in = seal(j, 5, 'a'), out = {0};
	journal_close(j);
	struct journal_mark mark;
	struct mc_error err = MC_ERROR_INIT;
	assert_int_equal(journal_replay(path, ids, 1, see, &out, &mark, &err), -ENODEV);
	assert_non_null(strstr(err.msg, "data"));
	assert_int_equal(out.entries, 0);
	/* Configured the other way round since: the writes go where they belong. */
	const char *const turned[3] = {"data", "new", "root"};
	struct seen by_name = {0};
	static const uint16_t disk[] = {2, 0, 0, 2};
	memset(data, 'a', sizeof data);
	struct journal_entry want[] = {{disk[0], DISK_WRITE, 0, 300, data},
		{disk[1], DISK_ZERO, 4096, 1ull << 40, NULL}, {disk[2], DISK_WRITE, 77, 1, data},
		{disk[3], DISK_TRIM, 512, 512, NULL}};
	for (int i = 0; i < 4; i++)
		see(&by_name, &want[i], NULL);
	assert_int_equal(journal_replay(path, turned, 3, see, &out, &mark, NULL), 0);
	assert_int_equal(out.hash, by_name.hash);
	assert_int_not_equal(out.hash, in.hash);
}

static void test_an_error_of_the_callback_is_handed_on(void **state)
{
	struct journal *j = open_journal();
	seal(j, 5, 'a');
	journal_close(j);
	struct seen s = {.fail_at = 3};
	struct journal_mark mark = {1, 1};
	assert_int_equal(journal_replay(path, ids, 2, see, &s, &mark, NULL), -EIO);
	assert_int_equal(s.entries, 3);
	assert_int_equal(mark.epoch, 1); /* untouched */
}

static int full(int fd, uint64_t off, uint64_t len)
{
	return -ENOSPC;
}

static void test_a_full_disk_fails_the_seal(void **state)
{
	struct mc_error err = MC_ERROR_INIT;
	static const struct disk_seam seam = {.before_write = full};
	struct journal *j = open_journal();
	assert_int_equal(journal_begin(j, 7, 5, NULL), 0);
	some_entries(j, &(struct seen){0}, 'a');
	disk_seam = &seam;
	assert_int_equal(journal_seal(j, &err), -ENOSPC);
	assert_non_null(strstr(err.msg, path));
	disk_seam = NULL;
	seal(j, 6, 'b'); /* it can be used again once there is space */
	struct seen out;
	assert_int_equal(replay(&out, 0), 6);
	journal_close(j);
}

static void begin_an_older_epoch(void *j)
{
	journal_begin(j, 7, 4, NULL);
}
static void begin_an_older_generation(void *j)
{
	journal_begin(j, 6, 9, NULL);
}
static void seal_what_was_not_begun(void *j)
{
	journal_seal(j, NULL);
}

/* A replay of it would undo what was applied since. */
static void test_epochs_only_grow(void **state)
{
	struct journal *j = open_journal();
	seal(j, 5, 'a');
	assert_true(dies(begin_an_older_epoch, j));
	assert_true(dies(begin_an_older_generation, j));
	assert_true(dies(seal_what_was_not_begun, j));
	journal_close(j);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_a_sealed_epoch_comes_back),
		T(test_large_entries_come_back),
		T(test_none_before_a_seal_and_after_a_clear),
		T(test_a_kill_between_begin_and_seal_gives_no_part),
		T(test_every_truncation_gives_all_or_nothing),
		T(test_every_bit_flip_gives_all_or_nothing),
		T(test_every_mixture_of_two_epochs_gives_one_of_them_or_nothing),
		T(test_something_else_is_no_journal_and_is_left_alone),
		T(test_a_disk_that_is_gone_is_an_error_and_the_order_is_none),
		T(test_an_error_of_the_callback_is_handed_on),
		T(test_a_full_disk_fails_the_seal),
		T(test_epochs_only_grow),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
