/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pause, resume and what a guest does by itself, against a real QEMU that runs nothing but its
 * firmware (guestbox.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/guest/guestbox.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

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
		/* or the administrator had stopped it, and it is not ours to resume */
		bool ours = i % 2;
		for (int k = 0; k < 2; k++) {
			ok(&b, guest_pause(b.g, WAIT, &b.err));
			if (k == 0)
				administrator(&b, commands[i / 2]);
			/* a reset is done some time after its command is answered */
			if (k == 0 && i / 2)
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

static void a_reset_in_our_pause_is_forgotten_by_who_reads_anew(void **state)
{
	struct box b;
	uint8_t *devices = NULL;
	size_t cap = 0, len = 0;
	launch(&b, false);
	ok(&b, guest_pause(b.g, WAIT, &b.err));
	assert_false(guest_take_reset(b.g));
	administrator(&b, "system_reset");
	assert_int_equal(event(&b), GUEST_EVENT_RESET);
	assert_true(guest_take_reset(b.g));
	ok(&b, guest_save_devices(b.g, WAIT, &devices, &cap, &len, &b.err));
	assert_true(len > 0);
	assert_false(guest_take_reset(b.g));
	ok(&b, guest_resume(b.g, WAIT, &b.err));
	ok(&b, guest_stood_still(b.g, WAIT, &b.err));
	assert_true(runs(&b));
	free(devices);
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

static void *wake_it(void *arg)
{
	poll(NULL, 0, 100);
	kill(*(pid_t *)arg, SIGCONT);
	return NULL;
}

/* QEMU tells of the panic and stops the guest a moment later.  If our `stop` comes between, it
 * stops the guest as ours, and forgets its own reason. */
static void a_panic_just_before_our_stop_is_not_ours_to_resume(void **state)
{
	static const char panic[] = "{\"execute\":\"human-monitor-command\",\"id\":0,\"arguments\":"
				    "{\"command-line\":\"o/b 0x505 1\"}}\n";
	struct box b;
	box_init(&b);
	ok(&b, launch_as(&b, QEMU " -device pvpanic -action panic=pause", b.dir, false, WAIT));
	for (int i = 0; i < 20; i++) {
		enum guest_event why;
		pthread_t waker;
		pid_t pid = guest_pid(b.g);
		kill(pid, SIGSTOP);
		pthread_create(&waker, NULL, wake_it, &pid);
		ok(&b, (int)send(qmp_fd(qemu_of(b.g)->oob), panic, sizeof panic - 1, 0));
		ok(&b, guest_pause(b.g, WAIT, &b.err));
		pthread_join(waker, NULL);
		/* or else it came after our pause, and changed nothing */
		enum guest_event ev = guest_next_event(b.g);
		if (ev == GUEST_EVENT_PANICKED) {
			assert_false(guest_paused_by_us(b.g));
			ok(&b, guest_why_stopped(b.g, WAIT, &why, &b.err));
			assert_int_equal(why, GUEST_EVENT_PANICKED);
		}
		while (guest_next_event(b.g) != GUEST_EVENT_NONE)
			;
		ok(&b, guest_reset(b.g, WAIT, &b.err));
		ok(&b, guest_continue(b.g, WAIT, &b.err));
		while (guest_next_event(b.g) != GUEST_EVENT_NONE)
			;
	}
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

#define TEST(name) cmocka_unit_test_teardown(name, forget_boxes)

int main(void)
{
	if (system("command -v " QEMU " >/dev/null") != 0) {
		puts("skipped: " QEMU " is not installed");
		return 77;
	}
	const struct CMUnitTest tests[] = {
		TEST(the_guest_knows_that_it_was_us_who_stopped_it),
		TEST(a_guest_that_we_did_not_stop_is_continued_but_never_resumed),
		TEST(a_stop_while_it_ran_in_our_pause_leaves_it_ours),
		TEST(our_own_stops_and_resumes_are_no_events),
		TEST(a_stop_by_the_administrator_is_told_and_kept),
		TEST(a_guest_that_another_makes_run_in_our_pause_did_not_stand_still),
		TEST(a_cont_that_follows_on_our_stop_is_not_lost),
		TEST(a_reset_is_told),
		TEST(a_reset_in_our_pause_is_forgotten_by_who_reads_anew),
		TEST(a_guest_that_powers_off_is_a_shutdown_and_then_gone),
		TEST(a_panic_is_told_and_its_guest_is_not_ours_to_resume),
		TEST(a_panic_just_before_our_stop_is_not_ours_to_resume),
		TEST(qemu_quitting_is_gone_and_not_a_shutdown_of_the_guest),
		TEST(a_hanging_qemu_is_told_within_the_time_limit),
		TEST(a_killed_qemu_is_gone_and_the_signal_is_named),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
