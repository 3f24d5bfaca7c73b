/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest functions against a real QEMU that runs nothing but its firmware (guestbox.h).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/guest/guestbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* As a later mcd does it. */
static enum guest_adopted adopt(struct box *b)
{
	enum guest_adopted how;
	guest_detach(b->g);
	b->g = NULL;
	ok(b, guest_qemu.adopt(&b->vm, b->dir, mc_now() + WAIT, &b->g, NULL, &how, &b->err));
	remember(b, b->g);
	return how;
}

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

/* --- pause and resume ------------------------------------------------------------------------- */

static void the_guest_knows_that_it_was_us_who_stopped_it(void **state)
{
	struct box b;
	launch(&b, false);
	assert_false(guest_paused_by_us(NULL));
	assert_false(guest_paused_by_us(b.g));
	ok(&b, guest_pause(b.g, WAIT, &b.err));
	assert_true(guest_paused_by_us(b.g));
	assert_false(runs(&b));
	ok(&b, guest_pause(b.g, WAIT, &b.err)); /* again: it stands already, and is ours still */
	assert_true(guest_paused_by_us(b.g));
	ok(&b, guest_resume(b.g, WAIT, &b.err));
	assert_false(guest_paused_by_us(b.g));
	assert_true(runs(&b));
	box_clear(&b);
}

static void a_guest_that_we_did_not_stop_is_continued_but_never_resumed(void **state)
{
	struct box b;
	launch(&b, false);
	administrator(&b, "stop");
	ok(&b, guest_resume(b.g, WAIT, &b.err));
	assert_false(runs(&b));
	ok(&b, guest_pause(b.g, WAIT, &b.err));
	assert_false(guest_paused_by_us(b.g));
	ok(&b, guest_resume(b.g, WAIT, &b.err));
	assert_false(runs(&b));
	ok(&b, guest_continue(b.g, WAIT, &b.err));
	assert_true(runs(&b));
	ok(&b, guest_pause(b.g, WAIT, &b.err));
	assert_true(guest_paused_by_us(b.g));
	ok(&b, guest_continue(b.g, WAIT, &b.err));
	assert_false(guest_paused_by_us(b.g));
	box_clear(&b);
}

static void a_stop_while_it_ran_in_our_pause_leaves_it_ours(void **state)
{
	struct box b;
	launch(&b, false);
	ok(&b, guest_pause(b.g, WAIT, &b.err));
	administrator(&b, "cont");
	administrator(&b, "stop");
	ok(&b, guest_pause(b.g, WAIT, &b.err));
	assert_true(guest_paused_by_us(b.g));
	ok(&b, guest_resume(b.g, WAIT, &b.err));
	assert_true(runs(&b));
	box_clear(&b);
}

static void our_own_stops_and_resumes_are_no_events(void **state)
{
	struct box b;
	launch(&b, false);
	for (int i = 0; i < 200; i++) {
		ok(&b, guest_pause(b.g, WAIT, &b.err));
		assert_true(guest_paused_by_us(b.g));
		ok(&b, guest_resume(b.g, WAIT, &b.err));
	}
	assert_int_equal(guest_next_event(b.g), GUEST_EVENT_NONE);
	box_clear(&b);
}

static void a_stop_by_the_administrator_is_told_and_kept(void **state)
{
	struct box b;
	launch(&b, false);
	administrator(&b, "stop");
	ok(&b, guest_pause(b.g, WAIT, &b.err));
	assert_false(guest_paused_by_us(b.g)); /* so that nobody resumes behind his back */
	assert_int_equal(event(&b), GUEST_EVENT_STOPPED);
	administrator(&b, "cont");
	assert_int_equal(event(&b), GUEST_EVENT_RESUMED);
	assert_int_equal(guest_next_event(b.g), GUEST_EVENT_NONE);
	box_clear(&b);
}

static void a_guest_that_another_makes_run_in_our_pause_did_not_stand_still(void **state)
{
	struct box b;
	static const char *const commands[] = {"cont", "system_reset"};
	launch(&b, false);
	for (int i = 0; i < 4; i++) {
		bool ours = i % 2; /* or the administrator had stopped it, and it is not ours to resume */
		for (int k = 0; k < 2; k++) {
			ok(&b, guest_pause(b.g, WAIT, &b.err));
			if (k == 0)
				administrator(&b, commands[i / 2]);
			if (k == 0 && i / 2) /* a reset is done some time after its command is answered */
				assert_int_equal(event(&b), GUEST_EVENT_RESET);
			if (ours)
				ok(&b, guest_resume(b.g, WAIT, &b.err));
			int r = guest_stood_still(b.g, WAIT, &b.err);
			assert_int_equal(r, k == 0 ? -EIO : 0);
			b.err = MC_ERROR_INIT;
			if (k == 0 && !ours && i / 2 == 0)
				assert_true(runs(&b));
		}
		ok(&b, guest_resume(b.g, WAIT, &b.err));
		while (guest_next_event(b.g) != GUEST_EVENT_NONE)
			;
	}
	box_clear(&b);
}

#define STOPS 50 /* fewer than guest.c resumes before it reads the other session empty */

/* Makes the guest run again as soon as it hears of a stop. */
static void *contrary(void *ctx)
{
	struct box *b = ctx;
	struct mc_error err = MC_ERROR_INIT;
	intptr_t r = 0;
	for (int i = 0; i < STOPS && r == 0; i++) {
		r = qmp_wait_event(qemu_of(b->g)->oob, "STOP", mc_now() + WAIT, NULL, &err);
		if (r == 0)
			r = qmp_command(qemu_of(b->g)->oob, "cont", NULL, WAIT, NULL, &err);
	}
	return (void *)r;
}

static void a_cont_that_follows_on_our_stop_is_not_lost(void **state)
{
	struct box b;
	pthread_t thread;
	void *theirs;
	launch(&b, false);
	assert_int_equal(pthread_create(&thread, NULL, contrary, &b), 0);
	for (int i = 0; i < STOPS; i++) {
		ok(&b, guest_pause(b.g, WAIT, &b.err));
		while (!runs(&b))
			;
		assert_int_equal(guest_stood_still(b.g, WAIT, &b.err), -EIO);
		b.err = MC_ERROR_INIT;
		ok(&b, guest_resume(b.g, WAIT, &b.err));
	}
	assert_int_equal(pthread_join(thread, &theirs), 0);
	assert_null(theirs);
	box_clear(&b);
}

static void a_reset_is_told(void **state)
{
	struct box b;
	launch(&b, false);
	administrator(&b, "system_reset");
	assert_int_equal(event(&b), GUEST_EVENT_RESET);
	box_clear(&b);
}

/* Writes a port as the guest would. */
static void guest_writes(struct box *b, const char *port_and_value)
{
	char line[64], *text = NULL;
	snprintf(line, sizeof line, "o%s", port_and_value);
	ok(b, qmp_hmp(qemu_of(b->g)->qmp, line, WAIT, &text, &b->err));
	assert_string_equal(text, "");
	free(text);
}

static void a_guest_that_powers_off_is_a_shutdown_and_then_gone(void **state)
{
	struct box b;
	launch(&b, false);
	let_firmware_settle(&b); /* which gives the power management its port */
	char *text = NULL;
	int r = qmp_hmp(qemu_of(b.g)->qmp, "o/h 0x604 0x2000", WAIT, &text, &b.err); /* soft off */
	free(text);
	assert_true(r == 0 || r == -EPIPE);
	assert_int_equal(event(&b), GUEST_EVENT_SHUTDOWN);
	assert_int_equal(event(&b), GUEST_EVENT_GONE);
	box_clear(&b);
}

static void a_panic_is_told_and_its_guest_is_not_ours_to_resume(void **state)
{
	struct box b;
	box_init(&b);
	ok(&b, launch_as(&b, QEMU " -device pvpanic -action panic=pause", b.dir, false, WAIT));
	guest_writes(&b, "/b 0x505 1");
	assert_int_equal(event(&b), GUEST_EVENT_PANICKED);
	assert_int_equal(event(&b), GUEST_EVENT_STOPPED);
	ok(&b, guest_pause(b.g, WAIT, &b.err));
	assert_false(guest_paused_by_us(b.g));
	box_clear(&b);
}

static void qemu_quitting_is_gone_and_not_a_shutdown_of_the_guest(void **state)
{
	struct box b;
	launch(&b, false);
	administrator(&b, "quit");
	assert_int_equal(event(&b), GUEST_EVENT_GONE);
	assert_int_equal(event(&b), GUEST_EVENT_GONE);
	assert_false(guest_alive(b.g));
	assert_int_equal(guest_pause(b.g, WAIT, &b.err), -EPIPE);
	box_clear(&b);
}

static void a_hanging_qemu_is_told_within_the_time_limit(void **state)
{
	struct box b;
	launch(&b, false);
	assert_int_equal(kill(guest_pid(b.g), SIGSTOP), 0);
	siginfo_t si;
	assert_int_equal(waitid(P_PID, (id_t)guest_pid(b.g), &si, WSTOPPED | WNOWAIT), 0);
	uint64_t t = mc_now();
	assert_int_equal(guest_pause(b.g, 100 * MC_MSEC, &b.err), -ETIMEDOUT);
	assert_true(mc_now() - t < 10 * MC_SEC);
	assert_string_equal(b.err.cls, MC_ECLASS_TIMEOUT);
	assert_said(&b, "SIGSTOP");
	assert_true(guest_paused_by_us(b.g)); /* perhaps it stands */
	assert_int_equal(
		guest_resume(b.g, 100 * MC_MSEC, &b.err), -EPIPE); /* no late answer is believed */
	assert_true(guest_paused_by_us(b.g));
	assert_int_equal(guest_next_event(b.g), GUEST_EVENT_NONE);
	pid_t pid = guest_pid(b.g);
	guest_kill(b.g);
	assert_int_equal(kill(pid, 0), -1); /* SIGKILL reaches a stopped one too */
	box_clear(&b);
}

static void a_killed_qemu_is_gone_and_the_signal_is_named(void **state)
{
	struct box b;
	launch(&b, false);
	assert_int_equal(kill(guest_pid(b.g), SIGKILL), 0);
	assert_int_equal(event(&b), GUEST_EVENT_GONE);
	assert_int_equal(guest_pause(b.g, WAIT, &b.err), -EPIPE);
	box_clear(&b);
	launch(&b, false);
	assert_int_equal(kill(guest_pid(b.g), SIGKILL), 0);
	assert_int_equal(guest_pause(b.g, WAIT, &b.err), -EPIPE);
	assert_said(&b, "signal 9");
	box_clear(&b);
}

/* --- device state ----------------------------------------------------------------------------- */

static void the_device_state_is_saved_again_and_again(void **state)
{
	struct box b;
	uint8_t *buf = NULL, *copy = NULL;
	size_t cap = 0, len = 0, first;
	launch(&b, false);
	let_firmware_settle(&b);
	ok(&b, guest_pause(b.g, WAIT, &b.err));
	ok(&b, guest_save_devices(b.g, WAIT, &buf, &cap, &first, &b.err));
	assert_true(first > 1000 && first <= cap);
	assert_memory_equal(buf, "QEVM", 4);
	copy = malloc(first);
	memcpy(copy, buf, first);
	for (int i = 0; i < 20; i++) {
		memset(buf, 0xee, cap);
		ok(&b, guest_save_devices(b.g, WAIT, &buf, &cap, &len, &b.err));
		assert_int_equal(len, first);
		assert_memory_equal(buf, copy, first);
	}
	assert_false(runs(&b)); /* saving resumes nothing */
	assert_int_equal(guest_next_event(b.g), GUEST_EVENT_NONE);
	ok(&b, guest_resume(b.g, WAIT, &b.err));
	free(buf);
	free(copy);
	box_clear(&b);
}

static char *registers(struct box *b)
{
	char *text = NULL;
	ok(b, qmp_hmp(qemu_of(b->g)->qmp, "info registers", WAIT, &text, &b->err));
	return text;
}

static void assert_same_line(const char *a, const char *b, const char *start)
{
	a = strstr(a, start);
	b = strstr(b, start);
	assert_non_null(a);
	assert_non_null(b);
	assert_int_equal(strcspn(a, "\r\n"), strcspn(b, "\r\n"));
	assert_memory_equal(a, b, strcspn(a, "\r\n"));
}

static void a_standby_takes_over_state_and_memory(void **state)
{
	struct box a, s;
	uint8_t *buf = NULL;
	size_t cap = 0, len = 0;
	launch(&a, false);
	launch(&s, true);
	assert_false(runs(&s));
	let_firmware_settle(&a);
	char *before = registers(&a);
	ok(&a, guest_pause(a.g, WAIT, &a.err));
	memcpy(a.ram + 0x100000, "a page of the guest", 20);
	ok(&a, guest_save_devices(a.g, WAIT, &buf, &cap, &len, &a.err));
	memcpy(s.ram, a.ram, RAM_SIZE);

	uint64_t t = mc_now(), loaded = 0;
	ok(&s, guest_activate(s.g, buf, len, WAIT, &loaded, &s.err));
	uint64_t took = mc_now() - t;
	assert_true(loaded >= t && loaded <= mc_now());
	print_message("activation took %.2f ms\n", (double)took / 1e6);
	assert_true(runs(&s));
	assert_int_equal(guest_next_event(s.g), GUEST_EVENT_NONE); /* our doing, no event */
	/* The idle loop of the firmware goes on where it was, which is not where a reset starts. */
	char *after = registers(&s);
	assert_same_line(before, after, "CS =");
	assert_same_line(before, after, "SS =");
	assert_same_line(before, after, "GDT=");
	assert_string_equal((char *)s.ram + 0x100000, "a page of the guest");

	/* The survivor is a full primary: it can be paused, saved and resumed. */
	ok(&s, guest_pause(s.g, WAIT, &s.err));
	assert_true(guest_paused_by_us(s.g));
	ok(&s, guest_save_devices(s.g, WAIT, &buf, &cap, &len, &s.err));
	ok(&s, guest_resume(s.g, WAIT, &s.err));
	/* Nor does a later mcd give it another state. */
	assert_int_equal(adopt(&s), GUEST_ADOPTED_RUNNING);
	assert_int_equal(guest_activate(s.g, buf, len, WAIT, NULL, &s.err), -EINVAL);
	free(before);
	free(after);
	free(buf);
	box_clear(&a);
	box_clear(&s);
}

static void a_damaged_state_fails_with_qemus_words(void **state)
{
	struct box a;
	uint8_t *buf = NULL;
	size_t cap = 0, len = 0;
	launch(&a, false);
	ok(&a, guest_pause(a.g, WAIT, &a.err));
	ok(&a, guest_save_devices(a.g, WAIT, &buf, &cap, &len, &a.err));

	static const struct {
		size_t cut; /* bytes of the state that are given, in 1/4 */
		bool garbage;
	} cases[] = {{0, false}, {1, false}, {3, false}, {4, true}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct box s;
		launch(&s, true);
		if (cases[i].garbage)
			memset(buf, 0x5a, len);
		uint64_t at = 1;
		int r = guest_activate(s.g, buf, len * cases[i].cut / 4, WAIT, &at, &s.err);
		assert_true(r == -EIO || r == -EPIPE);
		assert_said(&s, "did not take the device state");
		assert_said(&s, "load of migration failed");
		assert_int_equal(at, 1); /* untouched */
		assert_int_equal(event(&s), GUEST_EVENT_GONE);
		box_clear(&s);
	}
	free(buf);
	box_clear(&a);
}

static void a_hanging_standby_fails_in_time(void **state)
{
	struct box s;
	uint8_t junk[64] = {0};
	launch(&s, true);
	assert_int_equal(kill(guest_pid(s.g), SIGSTOP), 0);
	assert_int_equal(
		guest_activate(s.g, junk, sizeof junk, 100 * MC_MSEC, NULL, &s.err), -ETIMEDOUT);
	box_clear(&s);
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
	assert_int_equal(guest_qemu.adopt(&b.vm, b.dir, mc_now() + WAIT, &b.g, NULL, &how, &b.err), -ENOENT);
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
		TEST(the_guest_knows_that_it_was_us_who_stopped_it),
		TEST(a_guest_that_we_did_not_stop_is_continued_but_never_resumed),
		TEST(a_stop_while_it_ran_in_our_pause_leaves_it_ours),
		TEST(our_own_stops_and_resumes_are_no_events),
		TEST(a_stop_by_the_administrator_is_told_and_kept),
		TEST(a_guest_that_another_makes_run_in_our_pause_did_not_stand_still),
		TEST(a_cont_that_follows_on_our_stop_is_not_lost),
		TEST(a_reset_is_told),
		TEST(a_guest_that_powers_off_is_a_shutdown_and_then_gone),
		TEST(a_panic_is_told_and_its_guest_is_not_ours_to_resume),
		TEST(qemu_quitting_is_gone_and_not_a_shutdown_of_the_guest),
		TEST(a_hanging_qemu_is_told_within_the_time_limit),
		TEST(a_killed_qemu_is_gone_and_the_signal_is_named),
		TEST(the_device_state_is_saved_again_and_again),
		TEST(a_standby_takes_over_state_and_memory),
		TEST(a_damaged_state_fails_with_qemus_words),
		TEST(a_hanging_standby_fails_in_time),
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
