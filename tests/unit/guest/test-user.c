/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who QEMU runs as: the user is found, tried out, and given what it needs and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/cleanup.h"
#include "mcd/guest/guest-private.h"
#include "mcd/guest/user.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/mount.h>
#include <unistd.h>

#define NOBODY 65534

static struct mc_error err;
static char dir[64];

static int setup(void **state)
{
	strcpy(dir, "/tmp/test-user-XXXXXX");
	return mkdtemp(dir) && chmod(dir, 0755) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
	char command[128];
	snprintf(command, sizeof command, "rm -rf %s", dir);
	return system(command) == 0 ? 0 : -1;
}

static const char *path(const char *leaf)
{
	static char buf[2][200];
	static unsigned next;
	next ^= 1;
	snprintf(buf[next], sizeof buf[next], "%s/%s", dir, leaf);
	return buf[next];
}

static void make_file(const char *leaf, mode_t mode)
{
	int fd = open(path(leaf), O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static uid_t owner(const char *leaf)
{
	struct stat st;
	assert_int_equal(lstat(path(leaf), &st), 0);
	return st.st_uid;
}

static struct guest_user nobody(void)
{
	struct guest_user u;
	if (guest_user_find("65534:65534", &u, &err) < 0)
		fail_msg("%s", err.msg);
	u.at_start = true;
	return u;
}

static void a_user_is_found_by_name_or_numbers(void **state)
{
	struct guest_user u;
	assert_int_equal(guest_user_find("65534:0", &u, &err), 0);
	assert_true(u.other && u.uid == NOBODY && u.gid == 0 && u.n_groups == 0);
	assert_int_equal(guest_user_find("root", &u, &err), 0);
	assert_true(u.other == (geteuid() != 0) && u.uid == 0);

	static const char *const wrong[] = {"no-user-of-that-name", "", "1:", ":1", "1:x", "-1:0",
		"4294967295:0", "0:4294967295", "1:2:3"};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		if (guest_user_find(wrong[i], &u, &err) >= 0)
			fail_msg("accepted: \"%s\"", wrong[i]);
}

static void key_and_command_are_two_ways_and_not_both(void **state)
{
	struct config_vm vm = {.path = "vm1.conf"};
	struct cmdline_plan plan = {.argc = 0};
	struct guest_user u;
	assert_int_equal(guest_user_of(&vm, &plan, &u, &err), 0);
	assert_false(u.other || u.at_start);
	strcpy(plan.runas, "65534:65534");
	assert_int_equal(guest_user_of(&vm, &plan, &u, &err), 0);
	assert_true(u.other && !u.at_start);
	strcpy(vm.user, "65534:65534");
	assert_int_equal(guest_user_of(&vm, &plan, &u, &err), -EINVAL);
	*plan.runas = 0;
	assert_int_equal(guest_user_of(&vm, &plan, &u, &err), 0);
	assert_true(u.other && u.at_start);
}

/* A file system whose server never answers. */
static void disk_that_hangs_is_given_up(void **state)
{
	struct guest_user u = nobody();
	char options[100];
	_cleanup_close_ int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other",
		fd);
	assert_int_equal(mkdir(path("hung"), 0755), 0);
	if (fd < 0 || mount("hung", path("hung"), "fuse", 0, options) < 0) {
		print_message("skipped: no FUSE here\n");
		skip();
	}
	uint64_t before = mc_now();
	int r = guest_user_try(&u, GUEST_MAY_WRITE, path("hung/disk"));
	uint64_t took = mc_now() - before;
	umount2(path("hung"), MNT_FORCE | MNT_DETACH);
	assert_int_equal(r, -ETIMEDOUT);
	assert_true(took >= GUEST_TRY_TIME && took < 3 * GUEST_TRY_TIME);
}

static void what_a_user_may_do_is_tried_out_as_that_user(void **state)
{
	struct guest_user u = nobody(), root = {.other = false};
	make_file("closed", 0600);
	make_file("readable", 0644);
	make_file("open", 0666);
	assert_int_equal(guest_user_try(&u, GUEST_MAY_READ, path("closed")), -EACCES);
	assert_int_equal(guest_user_try(&root, GUEST_MAY_WRITE, path("closed")), 0);
	assert_int_equal(guest_user_try(&u, GUEST_MAY_READ, path("readable")), 0);
	assert_int_equal(guest_user_try(&u, GUEST_MAY_WRITE, path("readable")), -EACCES);
	assert_int_equal(guest_user_try(&u, GUEST_MAY_WRITE, path("open")), 0);
	assert_int_equal(guest_user_try(&u, GUEST_MAY_WRITE, path("missing")), -ENOENT);
	assert_int_equal(guest_user_try(&u, GUEST_MAY_WRITE, "/dev/null"), 0);
	assert_int_equal(guest_user_try(&u, GUEST_MAY_READ, "/dev/mem"),
		access("/dev/mem", F_OK) ? -ENOENT : -EACCES);
	int r = guest_user_try(&u, GUEST_MAY_USERFAULTFD, NULL);
	assert_true(r == 0 || r == -ENOSYS); /* whatever vm.unprivileged_userfaultfd is */
	assert_int_equal(geteuid(), 0);      /* nobody here became anybody */
}

static void disks_are_given_and_nothing_else(void **state)
{
	struct guest_user u = nobody(), runas = u;
	runas.at_start = false;
	make_file("disk", 0600);
	assert_int_equal(guest_user_give(&runas, path("disk"), &err), 0);
	assert_int_equal(owner("disk"), 0); /* QEMU opens it before */
	assert_true(guest_user_would_give(&u, path("disk")));
	assert_int_equal(guest_user_give(&u, path("disk"), &err), 0);
	assert_int_equal(owner("disk"), NOBODY);

	make_file("of-another", 0600);
	assert_int_equal(chown(path("of-another"), 1, 1), 0);
	assert_int_equal(guest_user_give(&u, path("of-another"), &err), 0);
	assert_int_equal(owner("of-another"), 1);

	/* A directory of the user's: what a name there means is the user's to say. */
	make_file("secret", 0600);
	assert_int_equal(mkdir(path("theirs"), 0755), 0);
	make_file("theirs/disk", 0600);
	assert_int_equal(symlink(path("secret"), path("theirs/link")), 0);
	assert_int_equal(link(path("secret"), path("hardlink")), 0);
	assert_int_equal(chown(path("theirs"), NOBODY, NOBODY), 0);
	assert_false(guest_user_would_give(&u, path("theirs/disk")));
	assert_int_equal(guest_user_give(&u, path("theirs/disk"), &err), 0);
	assert_int_equal(owner("theirs/disk"), 0);
	assert_int_equal(guest_user_give(&u, path("theirs/link"), &err), 0);
	assert_int_equal(guest_user_give(&u, path("hardlink"), &err), 0);
	assert_int_equal(owner("secret"), 0);
}

static void the_sockets_directory_is_the_users_and_the_rest_is_roots(void **state)
{
	struct guest_user u = nobody(), root = {.other = false};
	struct stat st;
	assert_int_equal(mkdir(path("run"), 0700), 0);
	assert_int_equal(mkdir(path("run/vm1"), 0700), 0);
	assert_int_equal(mkdir(path("run/vm1/" GUEST_SOCKETS), 0700), 0);
	make_file("run/vm1/pid", 0600);
	assert_int_equal(guest_user_open_dir(&u, path("run/vm1"), &err), 0);
	assert_int_equal(owner("run/vm1/" GUEST_SOCKETS), NOBODY);
	assert_int_equal(owner("run/vm1"), 0);
	stat(path("run/vm1"), &st);
	assert_true((st.st_mode & 0777) == 0710 && st.st_gid == NOBODY);
	stat(path("run"), &st);
	assert_int_equal(st.st_mode & 0777, 0711);
	assert_int_equal(guest_user_try(&u, GUEST_MAY_READ, path("run/vm1/" GUEST_SOCKETS)), 0);
	assert_int_equal(guest_user_try(&u, GUEST_MAY_READ, path("run/vm1/pid")), -EACCES);
	assert_int_equal(guest_user_try(&u, GUEST_MAY_READ, path("run/vm1")), -EACCES);
	assert_int_equal(guest_user_open_dir(&root, path("run/vm1"), &err), 0);
	assert_int_equal(owner("run/vm1/" GUEST_SOCKETS), 0);

	/* What a former user left there instead of the directory is not followed. */
	assert_int_equal(rmdir(path("run/vm1/" GUEST_SOCKETS)), 0);
	assert_int_equal(symlink("/etc", path("run/vm1/" GUEST_SOCKETS)), 0);
	assert_true(guest_user_open_dir(&u, path("run/vm1"), &err) < 0);
}

int main(void)
{
	if (geteuid() != 0) {
		puts("SKIP: only root can become another user");
		return 77;
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_user_is_found_by_name_or_numbers),
		cmocka_unit_test(key_and_command_are_two_ways_and_not_both),
		cmocka_unit_test_setup_teardown(
			what_a_user_may_do_is_tried_out_as_that_user, setup, teardown),
		cmocka_unit_test_setup_teardown(disk_that_hangs_is_given_up, setup, teardown),
		cmocka_unit_test_setup_teardown(disks_are_given_and_nothing_else, setup, teardown),
		cmocka_unit_test_setup_teardown(
			the_sockets_directory_is_the_users_and_the_rest_is_roots, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
