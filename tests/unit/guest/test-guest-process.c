/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How a QEMU is started, ended, left behind and adopted (guestbox.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/guest/guestbox.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- launch ----------------------------------------------------------------------------------- */

static void a_launched_qemu_answers_and_has_what_we_need(void **state)
{
	struct box b;
	launch(&b, false);
	assert_true(guest_alive(b.g));
	ok(&b, guest_require(b.g, &b.err));
	assert_true(runs(&b));
	char path[256], pid[32] = "";
	path_of(&b, "pid", path, sizeof path);
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	assert_non_null(fgets(pid, sizeof pid, f));
	fclose(f);
	assert_int_equal(atoi(pid), guest_pid(b.g));
	box_clear(&b);
}

static void a_launched_qemu_is_detached_from_us(void **state)
{
	struct box b;
	int leak[2]; /* not close-on-exec, as a careless library might leave it */
	char leak_name[64];
	struct stat st;
	assert_int_equal(pipe(leak), 0);
	assert_int_equal(fstat(leak[0], &st), 0);
	snprintf(leak_name, sizeof leak_name, "pipe:[%lu]", (unsigned long)st.st_ino);
	launch(&b, false);
	pid_t pid = guest_pid(b.g);
	assert_int_equal(getsid(pid), pid);
	assert_int_equal(getpgid(pid), pid);

	/* Nothing of ours but the RAM, the device state file, and standard descriptors to null and
	 * log. */
	char dir[64], link[320], target[256];
	snprintf(dir, sizeof dir, "/proc/%d/fd", (int)pid);
	DIR *d = opendir(dir);
	assert_non_null(d);
	struct dirent *e;
	int ours = 0;
	while ((e = readdir(d))) {
		snprintf(link, sizeof link, "%s/%s", dir, e->d_name);
		ssize_t n = readlink(link, target, sizeof target - 1);
		if (n < 0)
			continue;
		target[n] = '\0';
		if (atoi(e->d_name) == 0)
			assert_string_equal(target, "/dev/null");
		else if (atoi(e->d_name) <= 2)
			assert_non_null(strstr(target, "/qemu.log"));
		else if (strstr(target, "mcd-devices"))
			ours++;
		assert_string_not_equal(target, leak_name);
	}
	closedir(d);
	assert_int_equal(ours, 1);
	close(leak[0]);
	close(leak[1]);
	box_clear(&b);
}

static void a_program_that_is_not_there_is_named(void **state)
{
	struct box b;
	box_init(&b);
	assert_int_equal(launch_as(&b, "/no/such/qemu", b.dir, false, WAIT), -ENOENT);
	assert_string_equal(b.err.cls, MC_ECLASS_CONFIG);
	assert_said(&b, "cannot run /no/such/qemu: No such file or directory");
	assert_null(b.g);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nothing left to reap */
	box_clear(&b);
}

static void a_refused_option_is_explained_in_qemus_words(void **state)
{
	struct box b;
	box_init(&b);
	assert_int_equal(launch_as(&b, QEMU " -device no-such-thing", b.dir, false, WAIT), -EPIPE);
	assert_string_equal(b.err.cls, MC_ECLASS_QMP);
	assert_said(&b, "exited with status 1");
	assert_said(&b, "no-such-thing");
	assert_said(&b, "qemu.log");
	assert_null(b.g);
	assert_false(has(&b, "pid"));
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	/* And the words are those of the last start, not of one before. */
	assert_int_equal(launch_as(&b, QEMU " -no-such-option", b.dir, false, WAIT), -EPIPE);
	assert_said(&b, "no-such-option");
	assert_null(strstr(b.err.msg, "no-such-thing"));
	assert_null(strstr(b.err.msg, "---")); /* nor the command line that is logged above them */
	box_clear(&b);
}

static void a_run_dir_too_deep_for_a_socket_is_refused(void **state)
{
	struct box b;
	char dir[200];
	box_init(&b);
	snprintf(dir, sizeof dir, "%s/%0100d", b.dir, 0);
	assert_int_equal(launch_as(&b, QEMU, dir, false, WAIT), -ENAMETOOLONG);
	assert_said(&b, "run-dir");
	box_clear(&b);
}

static void a_second_copy_in_the_same_run_dir_is_refused(void **state)
{
	struct box b;
	launch(&b, false);
	struct guest *first = b.g;
	pid_t pid = guest_pid(first);
	assert_int_equal(launch_as(&b, QEMU, b.dir, false, WAIT), -EBUSY);
	assert_string_equal(b.err.cls, MC_ECLASS_STATE);
	b.g = first;
	assert_true(runs(&b)); /* its sockets were left alone */
	assert_int_equal(guest_pid(b.g), pid);
	box_clear(&b);
}

static void a_silent_start_ends_in_time(void **state)
{
	struct box b;
	box_init(&b);
	/* A program that never speaks QMP, whatever its options. */
	char script[256];
	path_of(&b, "silent", script, sizeof script);
	FILE *f = fopen(script, "w");
	assert_non_null(f);
	fprintf(f, "#!/bin/sh\nexec sleep 60\n");
	fclose(f);
	assert_int_equal(chmod(script, 0700), 0);
	assert_int_equal(launch_as(&b, script, b.dir, false, 100 * MC_MSEC), -ETIMEDOUT);
	assert_string_equal(b.err.cls, MC_ECLASS_TIMEOUT);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* it was killed and reaped */
	unlink(script);
	box_clear(&b);
}

/* --- the end ---------------------------------------------------------------------------------- */

static void killing_leaves_nothing_behind(void **state)
{
	struct box b;
	launch(&b, false);
	pid_t pid = guest_pid(b.g);
	guest_kill(b.g);
	assert_int_equal(kill(pid, 0), -1);
	assert_int_equal(errno, ESRCH); /* not even a zombie */
	assert_false(has(&b, "pid"));
	assert_false(has(&b, "qemu/qmp.sock"));
	assert_false(has(&b, "qemu/qmp-oob.sock"));
	guest_kill(b.g); /* again, and on none: fine */
	guest_kill(NULL);
	box_clear(&b);
}

static void a_guest_that_ignores_the_power_button_is_killed_in_the_end(void **state)
{
	struct box b;
	launch(&b, false);
	assert_int_equal(guest_shutdown(b.g, mc_now() + 100 * MC_MSEC, &b.err), -ETIMEDOUT);
	assert_said(&b, "power button");
	assert_false(guest_alive(b.g));
	box_clear(&b);
}

static void a_qemu_that_outlives_its_guest_is_ended_at_once(void **state)
{
	struct box b;
	box_init(&b);
	ok(&b, launch_as(&b, QEMU " -no-shutdown", b.dir, false, WAIT));
	let_firmware_settle(&b);
	guest_writes(&b, "/h 0x604 0x2000");
	assert_true(guest_alive(b.g));
	ok(&b, guest_shutdown(b.g, mc_now() + 60 * MC_SEC, &b.err));
	assert_false(guest_alive(b.g));
	box_clear(&b);
}

static void a_detached_qemu_lives_on(void **state)
{
	struct box b;
	launch(&b, false);
	pid_t pid = guest_pid(b.g);
	guest_detach(b.g);
	b.g = NULL;
	remember(&b, NULL);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
	assert_true(has(&b, "pid"));
	/* Its socket serves the next one. */
	struct qmp *q = NULL;
	char path[256];
	path_of(&b, "qemu/qmp.sock", path, sizeof path);
	ok(&b, qmp_open(path, false, mc_now() + WAIT, &q, &b.err));
	qmp_close(q);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	box_clear(&b);
}

static void an_adopted_guest_that_stands_is_ours_to_resume(void **state)
{
	struct box b;
	launch(&b, false);
	pid_t pid = guest_pid(b.g);
	assert_int_equal(adopt(&b), GUEST_ADOPTED_RUNNING);
	assert_int_equal(guest_pid(b.g), pid);
	assert_false(guest_paused_by_us(b.g));
	administrator(&b, "stop");
	assert_int_equal(adopt(&b), GUEST_ADOPTED_STOPPED);
	assert_true(guest_paused_by_us(b.g));
	ok(&b, guest_pause(b.g, WAIT, &b.err)); /* what a new owner does first */
	assert_true(guest_paused_by_us(b.g));
	ok(&b, guest_resume(b.g, WAIT, &b.err));
	assert_true(runs(&b));
	box_clear(&b);
}

static void an_adopted_standby_waits_and_is_not_ours(void **state)
{
	struct box b;
	launch(&b, true);
	assert_int_equal(adopt(&b), GUEST_ADOPTED_WAITING);
	assert_false(guest_paused_by_us(b.g));
	box_clear(&b);
}

static void where_no_qemu_is_none_is_adopted(void **state)
{
	struct box b;
	enum guest_adopted how;
	box_init(&b);
	assert_int_equal(
		guest_qemu.adopt(&b.vm, b.dir, mc_now() + WAIT, &b.g, NULL, &how, &b.err), -ENOENT);
	assert_int_equal(b.err.code, 0);
	assert_null(b.g);
	box_clear(&b);
}

#define TEST(name) cmocka_unit_test_teardown(name, forget_boxes)

int main(void)
{
	if (system("command -v " QEMU " >/dev/null") != 0) {
		puts("skipped: " QEMU " is not installed");
		return 77;
	}
	const struct CMUnitTest tests[] = {
		TEST(a_launched_qemu_answers_and_has_what_we_need),
		TEST(a_launched_qemu_is_detached_from_us),
		TEST(a_program_that_is_not_there_is_named),
		TEST(a_refused_option_is_explained_in_qemus_words),
		TEST(a_run_dir_too_deep_for_a_socket_is_refused),
		TEST(a_second_copy_in_the_same_run_dir_is_refused),
		TEST(a_silent_start_ends_in_time),
		TEST(killing_leaves_nothing_behind),
		TEST(a_guest_that_ignores_the_power_button_is_killed_in_the_end),
		TEST(a_qemu_that_outlives_its_guest_is_ended_at_once),
		TEST(a_detached_qemu_lives_on),
		TEST(an_adopted_guest_that_stands_is_ours_to_resume),
		TEST(an_adopted_standby_waits_and_is_not_ours),
		TEST(where_no_qemu_is_none_is_adopted),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
