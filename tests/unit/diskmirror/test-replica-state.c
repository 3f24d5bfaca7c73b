/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is known about a replica survives, or is known to be unknown. */
#include "diskmirror/replica-state.h"

#include "common/cleanup.h"
#include "diskmirror/seam.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

static char path[64];

static int setup(void **state)
{
	char dir[] = "/tmp/mcd-state-XXXXXX";
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/state", dir);
	return 0;
}

static int teardown(void **state)
{
	disk_seam = NULL;
	char twin[80];
	snprintf(twin, sizeof twin, "%s.new", path);
	unlink(twin);
	unlink(path);
	*strrchr(path, '/') = '\0';
	return rmdir(path); /* nothing else is left behind */
}

static size_t contents(char *buf, size_t cap)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, buf, cap);
	assert_true(n > 0);
	return (size_t)n;
}

static void put(const char *buf, size_t len)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, buf, len), len);
}

static void test_a_missing_file_is_no_replica(void **state)
{
	struct replica_state s = {REPLICA_ACTIVE, 9, "x", ""};
	assert_int_equal(replica_state_load(path, &s, NULL), 0);
	assert_int_equal(s.trust, REPLICA_NONE);
	assert_int_equal(s.generation, 0);
}

static void test_what_was_saved_is_loaded(void **state)
{
	for (enum replica_trust t = REPLICA_NONE; t <= REPLICA_ACTIVE; t++) {
		struct replica_state in = {t, UINT64_MAX - t, "", ""}, out;
		if (t != REPLICA_NONE)
			memset(in.primary, 'p', sizeof in.primary - 1);
		assert_int_equal(replica_state_save(path, &in, NULL), 0);
		assert_int_equal(replica_state_load(path, &out, NULL), 0);
		assert_int_equal(in.trust, out.trust);
		assert_int_equal(in.generation, out.generation);
		assert_string_equal(in.primary, out.primary);
	}
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void test_every_damage_is_noticed_and_named(void **state)
{
	struct replica_state in = {REPLICA_WHOLE, 12, "alpha", ""},
			     out = {REPLICA_ACTIVE, 1, "", ""};
	struct mc_error err = MC_ERROR_INIT;
	char buf[600];
	assert_int_equal(replica_state_save(path, &in, NULL), 0);
	size_t len = contents(buf, sizeof buf);
	for (size_t n = 0; n < len; n++) {
		put(buf, n);
		assert_int_equal(replica_state_load(path, &out, &err), -EBADMSG);
		assert_non_null(strstr(err.msg, path));
	}
	for (size_t bit = 0; bit < 8 * len; bit++) {
		buf[bit / 8] ^= (char)(1 << bit % 8);
		put(buf, len);
		assert_int_equal(replica_state_load(path, &out, &err), -EBADMSG);
		buf[bit / 8] ^= (char)(1 << bit % 8);
	}
	buf[len] = '\n';
	put(buf, len + 1);
	assert_int_equal(replica_state_load(path, &out, &err), -EBADMSG);
	memset(buf, 'a', sizeof buf);
	put(buf, sizeof buf);
	assert_int_equal(replica_state_load(path, &out, &err), -EBADMSG);
	assert_int_equal(out.trust, REPLICA_ACTIVE); /* untouched */
}

static void test_what_was_never_flushed_is_whole_until_the_next_boot(void **state)
{
	struct replica_state in = {REPLICA_WHOLE, 12, "alpha", ""}, out;
	assert_int_equal(replica_state_boot(in.boot, NULL), 0);
	assert_int_equal(replica_state_save(path, &in, NULL), 0);
	assert_int_equal(replica_state_load(path, &out, NULL), 0);
	assert_int_equal(out.trust, REPLICA_WHOLE);
	in.boot[0] = in.boot[0] == 'a' ? 'b' : 'a';
	assert_int_equal(replica_state_save(path, &in, NULL), 0);
	assert_int_equal(replica_state_load(path, &out, NULL), 0);
	assert_int_equal(out.trust, REPLICA_SYNCING);
}

static int full(int fd, uint64_t off, uint64_t len)
{
	return -ENOSPC;
}

static void test_a_failed_save_leaves_the_former_state(void **state)
{
	static const struct disk_seam seam = {.before_write = full};
	struct replica_state in = {REPLICA_SYNCING, 12, "alpha", ""}, out;
	struct mc_error err = MC_ERROR_INIT;
	assert_int_equal(replica_state_save(path, &in, NULL), 0);
	disk_seam = &seam;
	in.trust = REPLICA_WHOLE;
	assert_int_equal(replica_state_save(path, &in, &err), -ENOSPC);
	assert_non_null(strstr(err.msg, path));
	assert_int_equal(replica_state_load(path, &out, NULL), 0);
	assert_int_equal(out.trust, REPLICA_SYNCING);
	strcpy(in.primary, "two words");
	assert_int_equal(replica_state_save(path, &in, NULL), -EINVAL);
}

/* Their places on the disk are had by the first save: a file system that is full keeps nobody from
 * the next ones. */
static void rule_12_what_is_saved_later_needs_no_more_room(void **state)
{
	struct replica_state in = {REPLICA_SYNCING, 1, "alpha", ""}, out;
	struct stat a, b, now;
	char twin[80];
	snprintf(twin, sizeof twin, "%s.new", path);
	assert_int_equal(replica_state_save(path, &in, NULL), 0);
	assert_int_equal(stat(path, &a) | stat(twin, &b), 0);
	assert_true(a.st_blocks > 0 && b.st_blocks > 0);
	for (unsigned i = 0; i < 5; i++) {
		in.trust = i % 2 ? REPLICA_WHOLE : REPLICA_ACTIVE;
		in.generation *= 1000;
		assert_int_equal(replica_state_save(path, &in, NULL), 0);
		assert_int_equal(replica_state_load(path, &out, NULL), 0);
		assert_int_equal(out.generation, in.generation);
		assert_int_equal(stat(path, &now), 0);
		assert_int_equal(now.st_ino, i % 2 ? a.st_ino : b.st_ino);
		assert_true(now.st_blocks <= a.st_blocks);
	}
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_a_missing_file_is_no_replica),
		T(test_what_was_saved_is_loaded),
		T(test_every_damage_is_noticed_and_named),
		T(test_what_was_never_flushed_is_whole_until_the_next_boot),
		T(test_a_failed_save_leaves_the_former_state),
		T(rule_12_what_is_saved_later_needs_no_more_room),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
