/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Injection into real processes in every state that a thread can be interrupted in.  Each test is
 * about what the process notices: nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/clock.h"
#include "common/error.h"
#include "mcd/guest/dirty/inject.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT      (10 * MC_SEC)
#define SLEEP_MS  600
#define INJECT_MS 450

static struct shared {
	_Atomic uint64_t ready, counter, handled, returns, bad;
	_Atomic int64_t result, err;
	_Atomic uint64_t ended_at;
	int pipe[2];
} * sh;

static pid_t child;

static int setup(void **state)
{
	sh = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return sh == MAP_FAILED || pipe(sh->pipe);
}

static int teardown(void **state)
{
	if (child > 0) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	child = 0;
	close(sh->pipe[0]);
	close(sh->pipe[1]);
	return munmap(sh, 4096);
}

static void start(void (*fn)(void))
{
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(60);
		fn();
		_exit(0);
	}
	for (uint64_t end = mc_now() + WAIT; !sh->ready; usleep(100))
		assert_true(mc_now() < end);
}

static void wait_for(_Atomic uint64_t *what, uint64_t least)
{
	for (uint64_t end = mc_now() + WAIT; *what < least; usleep(50))
		if (mc_now() > end)
			fail_msg("the process does not go on");
}

static char state_of(pid_t pid)
{
	char path[64], line[256];
	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	FILE *f = fopen(path, "re");
	char c = '?';
	if (f && fgets(line, sizeof line, f))
		c = strrchr(line, ')')[2];
	if (f)
		fclose(f);
	return c;
}

static void wait_state(pid_t pid, char want)
{
	for (uint64_t end = mc_now() + WAIT; state_of(pid) != want; usleep(100))
		assert_true(mc_now() < end);
}

/* The process must execute our call in its own name. */
static void inject_getpid(void)
{
	struct mc_error err = MC_ERROR_INIT;
	int64_t value = 0;
	int r = inject_syscall(child, SYS_getpid, (const uint64_t[6]){0}, &value, &err);
	if (r)
		fail_msg("%s", err.msg);
	assert_int_equal(value, child);
}

static uint64_t inject_for(unsigned ms)
{
	uint64_t end = mc_now() + ms * MC_MSEC;
	while (mc_now() < end)
		inject_getpid();
	return mc_now();
}

/* --- a busy process ----------------------------------------------------------------------------*/

/* Many live registers and floating point: anything not restored changes the result. */
static double mix(void)
{
	uint64_t a = 1, b = 2, c = 3, d = 4, e = 5, f = 6;
	double x = 1.0;
	for (int i = 0; i < 20000; i++) {
		a = a * 6364136223846793005ull + b;
		b ^= a >> 7;
		c += b * 31;
		d ^= c << 3;
		e += d ^ f;
		f = f * 3 + a;
		x = x * 1.0000001 + (double)(f & 7);
	}
	return x + (double)((a ^ b ^ c ^ d ^ e ^ f) & 0xffff);
}

static void busy(void)
{
	double want = mix();
	for (sh->ready = 1;; sh->counter++)
		if (mix() != want)
			sh->bad++;
}

static void busy_process_computes_the_same(void **state)
{
	start(busy);
	inject_for(300);
	wait_for(&sh->counter, sh->counter + 3);
	assert_int_equal(sh->bad, 0);
}

static void result_of_a_failed_call_is_returned_raw(void **state)
{
	start(busy);
	int64_t value = 0;
	assert_int_equal(
		inject_syscall(child, SYS_close, (const uint64_t[6]){(uint64_t)-1}, &value, NULL),
		0);
	assert_int_equal(value, -EBADF);
}

static void six_arguments_arrive(void **state)
{
	start(busy);
	int64_t at = 0;
	const uint64_t args[6] = {0, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, (uint64_t)-1, 0};
	assert_int_equal(inject_syscall(child, SYS_mmap, args, &at, NULL), 0);
	assert_true(at > 0);
	const uint64_t un[6] = {(uint64_t)at, 8192};
	int64_t value = 1;
	assert_int_equal(inject_syscall(child, SYS_munmap, un, &value, NULL), 0);
	assert_int_equal(value, 0);
}

/* --- waiting processes
 * --------------------------------------------------------------------------*/

static void finish(int64_t result)
{
	sh->err = errno;
	sh->result = result;
	sh->ended_at = mc_now();
	sh->returns = 1;
	pause();
}

static const struct timespec sleep_ts = {.tv_nsec = SLEEP_MS * MC_MSEC};

static void in_nanosleep(void)
{
	sh->ready = 1;
	finish(nanosleep(&sleep_ts, NULL));
}

static void in_poll(void)
{
	struct pollfd p = {.fd = sh->pipe[0], .events = POLLIN};
	sh->ready = 1;
	finish(poll(&p, 1, SLEEP_MS));
}

static void in_futex(void)
{
	static uint32_t word;
	sh->ready = 1;
	finish(syscall(SYS_futex, &word, FUTEX_WAIT, 0, &sleep_ts, NULL, 0));
}

/* A wait with a time limit must neither end early nor begin anew. */
static void check_timed_wait(void (*fn)(void), int64_t result, int64_t error)
{
	uint64_t begin = mc_now();
	start(fn);
	wait_state(child, 'S');
	uint64_t last = inject_for(INJECT_MS);
	wait_for(&sh->returns, 1);
	assert_int_equal(sh->result, result);
	if (result < 0)
		assert_int_equal(sh->err, error);
	assert_true(sh->ended_at >= begin + SLEEP_MS * MC_MSEC);
	assert_true(sh->ended_at < last + (SLEEP_MS - 50) * MC_MSEC);
}

static void nanosleep_ends_on_time(void **state)
{
	check_timed_wait(in_nanosleep, 0, 0);
}

static void poll_ends_on_time(void **state)
{
	check_timed_wait(in_poll, 0, 0);
}

static void futex_wait_ends_on_time(void **state)
{
	check_timed_wait(in_futex, -1, ETIMEDOUT);
}

static void in_read(void)
{
	uint64_t v = 0;
	sh->ready = 1;
	ssize_t n = read(sh->pipe[0], &v, sizeof v);
	finish(n == sizeof v ? (int64_t)v : -1);
}

static void blocked_read_gets_its_data(void **state)
{
	start(in_read);
	wait_state(child, 'S');
	inject_for(100);
	assert_int_equal(sh->returns, 0);
	uint64_t v = 4711;
	assert_int_equal(write(sh->pipe[1], &v, sizeof v), sizeof v);
	wait_for(&sh->returns, 1);
	assert_int_equal(sh->result, 4711);
}

/* Note: epoll_wait is documented to return EINTR whenever its process is stopped and continued,
 * by anybody (signal(7)); every program has to expect it, QEMU does. */
static void in_epoll(void)
{
	int ep = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN};
	epoll_ctl(ep, EPOLL_CTL_ADD, sh->pipe[0], &ev);
	sh->ready = 1;
	int r;
	do
		r = epoll_wait(ep, &ev, 1, -1);
	while (r < 0 && errno == EINTR);
	finish(r);
}

static void epoll_wait_sees_its_event(void **state)
{
	start(in_epoll);
	wait_state(child, 'S');
	inject_for(100);
	assert_int_equal(write(sh->pipe[1], "x", 1), 1);
	wait_for(&sh->returns, 1);
	assert_int_equal(sh->result, 1);
}

/* --- signals
 * ------------------------------------------------------------------------------------*/

static void on_signal(int sig, siginfo_t *si, void *ctx)
{
	/* Queued signals come in order, with their value. */
	if (si->si_value.sival_int != (int)sh->handled)
		sh->bad++;
	sh->handled++;
}

static void count_signals(void)
{
	struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
	sigaction(SIGRTMIN, &sa, NULL);
}

static void busy_with_signals(void)
{
	count_signals();
	busy();
}

static void suspended_with_signals(void)
{
	sigset_t none, block;
	sigemptyset(&none);
	sigemptyset(&block);
	sigaddset(&block, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &block, NULL);
	count_signals();
	for (sh->ready = 1;; sh->returns++)
		sigsuspend(&none);
}

static _Atomic bool injector_stop;

static void *injector(void *arg)
{
	_Atomic uint64_t *n = arg;
	while (!injector_stop) {
		inject_getpid();
		++*n;
	}
	return NULL;
}

static void with_injector(void (*body)(void))
{
	pthread_t t;
	_Atomic uint64_t n = 0;
	injector_stop = false;
	pthread_create(&t, NULL, injector, &n);
	body();
	wait_for(&n, 50);
	injector_stop = true;
	pthread_join(t, NULL);
}

static void send_signals(void)
{
	for (int i = 0; i < 3000; i++) {
		assert_int_equal(sigqueue(child, SIGRTMIN, (union sigval){.sival_int = i}), 0);
		if (i % 8 == 0)
			usleep(300);
	}
	wait_for(&sh->handled, 3000);
}

static void no_signal_is_lost_or_doubled_while_busy(void **state)
{
	start(busy_with_signals);
	with_injector(send_signals);
	usleep(10000);
	assert_int_equal(sh->handled, 3000);
	assert_int_equal(sh->bad, 0);
}

/* sigsuspend must return after a handler: restarting it behind the handler would hang programs. */
static void signal_and_wait_for_return(void)
{
	for (int i = 0; i < 500; i++) {
		uint64_t returns = sh->returns;
		assert_int_equal(sigqueue(child, SIGRTMIN, (union sigval){.sival_int = i}), 0);
		wait_for(&sh->returns, returns + 1);
	}
}

static void sigsuspend_returns_once_per_signal(void **state)
{
	start(suspended_with_signals);
	with_injector(signal_and_wait_for_return);
	assert_int_equal(sh->handled, 500);
	assert_int_equal(sh->returns, 500);
	assert_int_equal(sh->bad, 0);
}

/* --- stopped processes
 * --------------------------------------------------------------------------*/

static void stopped_process_stays_stopped(void **state)
{
	start(busy);
	kill(child, SIGSTOP);
	wait_state(child, 'T');
	uint64_t counter = sh->counter;
	inject_for(100);
	wait_state(child, 'T');
	usleep(20000);
	assert_int_equal(state_of(child), 'T');
	assert_int_equal(sh->counter, counter);
	kill(child, SIGCONT);
	wait_for(&sh->counter, counter + 2);
	assert_int_equal(sh->bad, 0);
}

static void stop_and_continue_often(void)
{
	for (int i = 0; i < 100; i++) {
		kill(child, SIGSTOP);
		wait_state(child, i % 2 ? 'T' : state_of(child));
		usleep(200);
		kill(child, SIGCONT);
	}
	kill(child, SIGSTOP);
}

static void stop_that_races_with_injection_takes_effect(void **state)
{
	start(busy);
	with_injector(stop_and_continue_often);
	wait_state(child, 'T');
	uint64_t counter = sh->counter;
	usleep(20000);
	assert_int_equal(sh->counter, counter);
	kill(child, SIGCONT);
	wait_for(&sh->counter, counter + 2);
	assert_int_equal(sh->bad, 0);
}

/* --- processes that cannot be traced
 * ------------------------------------------------------------*/

static void traced_process_is_refused_with_its_tracers_number(void **state)
{
	start(busy);
	int ready[2];
	assert_int_equal(pipe(ready), 0);
	pid_t tracer = fork();
	if (!tracer) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		char ok = !ptrace(PTRACE_SEIZE, child, NULL, NULL);
		if (write(ready[1], &ok, 1) == 1)
			pause();
		_exit(0);
	}
	char ok = 0, number[16];
	assert_int_equal(read(ready[0], &ok, 1), 1);
	assert_true(ok);
	struct mc_error err = MC_ERROR_INIT;
	int64_t value;
	int r = inject_syscall(child, SYS_getpid, (const uint64_t[6]){0}, &value, &err);
	kill(tracer, SIGKILL);
	waitpid(tracer, NULL, 0);
	close(ready[0]);
	close(ready[1]);
	assert_int_equal(r, -EPERM);
	assert_string_equal(err.cls, MC_ECLASS_PERMISSION);
	snprintf(number, sizeof number, "%d", (int)tracer);
	assert_non_null(strstr(err.msg, number));
	inject_getpid();
}

static void missing_capability_is_named(void **state)
{
	if (getuid())
		skip();
	start(busy);
	int report[2];
	assert_int_equal(pipe(report), 0);
	pid_t other = fork();
	if (!other) {
		struct mc_error err = MC_ERROR_INIT;
		int64_t value;
		if (setgid(65534) || setuid(65534))
			_exit(1);
		inject_syscall(child, SYS_getpid, (const uint64_t[6]){0}, &value, &err);
		_exit(write(report[1], &err, sizeof err) != sizeof err);
	}
	struct mc_error err = MC_ERROR_INIT;
	assert_int_equal(read(report[0], &err, sizeof err), sizeof err);
	waitpid(other, NULL, 0);
	close(report[0]);
	close(report[1]);
	assert_int_equal(err.code, -EPERM);
	assert_non_null(strstr(err.msg, "CAP_SYS_PTRACE"));
	assert_non_null(strstr(err.msg, "ptrace_scope"));
}

static void dead_process_is_reported_and_its_status_left_for_the_parent(void **state)
{
	for (int i = 0; i < 30; i++) {
		start(busy);
		pid_t killer = fork();
		if (!killer) {
			usleep((unsigned)(i * 37));
			kill(child, SIGKILL);
			_exit(0);
		}
		struct mc_error err = MC_ERROR_INIT;
		int64_t value;
		int r = 0;
		for (uint64_t end = mc_now() + WAIT; !r && mc_now() < end;)
			r = inject_syscall(child, SYS_getpid, (const uint64_t[6]){0}, &value, &err);
		if (r != -ESRCH)
			fail_msg("%d: %s", r, err.msg);
		assert_string_equal(err.cls, MC_ECLASS_QMP);
		int st = 0;
		assert_int_equal(waitpid(child, &st, 0), child);
		assert_true(WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL);
		child = 0;
		waitpid(killer, NULL, 0);
		sh->ready = 0;
	}
}

/* --- userfaultfd
 * --------------------------------------------------------------------------------*/

static bool has_uffd(pid_t pid)
{
	char path[64], file[400], to[64];
	snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
	DIR *dir = opendir(path);
	bool found = false;
	for (struct dirent *de; dir && (de = readdir(dir));) {
		snprintf(file, sizeof file, "%s/%s", path, de->d_name);
		ssize_t n = readlink(file, to, sizeof to - 1);
		to[n > 0 ? n : 0] = '\0';
		found = found || strstr(to, "userfaultfd");
	}
	if (dir)
		closedir(dir);
	return found;
}

static void userfaultfd_comes_here_and_leaves_no_copy(void **state)
{
	start(in_poll);
	int pidfd = (int)syscall(SYS_pidfd_open, child, 0);
	struct mc_error err = MC_ERROR_INIT;
	int fd = inject_userfaultfd(child, pidfd, O_CLOEXEC | 1, &err);
	close(pidfd);
	if (fd == -ENOSYS) {
		print_message("skipped: the kernel has no userfaultfd\n");
		skip();
	}
	if (fd < 0)
		fail_msg("%s", err.msg);
	assert_true(has_uffd(getpid()));
	assert_false(has_uffd(child));
	close(fd);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	int64_t value;
	if (inject_syscall(getpid(), SYS_getpid, (const uint64_t[6]){0}, &value, NULL) ==
		-ENOTSUP) {
		puts("SKIP: system call injection is not implemented on this machine");
		return 77;
	}
	const struct CMUnitTest tests[] = {
		T(busy_process_computes_the_same),
		T(result_of_a_failed_call_is_returned_raw),
		T(six_arguments_arrive),
		T(nanosleep_ends_on_time),
		T(poll_ends_on_time),
		T(futex_wait_ends_on_time),
		T(blocked_read_gets_its_data),
		T(epoll_wait_sees_its_event),
		T(no_signal_is_lost_or_doubled_while_busy),
		T(sigsuspend_returns_once_per_signal),
		T(stopped_process_stays_stopped),
		T(stop_that_races_with_injection_takes_effect),
		T(traced_process_is_refused_with_its_tracers_number),
		T(missing_capability_is_named),
		T(dead_process_is_reported_and_its_status_left_for_the_parent),
		T(userfaultfd_comes_here_and_leaves_no_copy),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
