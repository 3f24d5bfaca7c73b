/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A child process that outlives us and shares nothing with us but what it was given.
 *
 * No PR_SET_PDEATHSIG: the death of mcd must not kill a VM.  No exec helper either, so that the
 * pid we learn is QEMU's own.
 */
#include "mcd/guest/guest-private.h"

#include "common/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

/* What a child that could not become QEMU says of it. */
struct failure {
	int error;
	bool user; /* it could not even become the user */
};

/* Between fork and exec of a process with threads: async-signal-safe calls only. */
static int child_setup(const int *keep, size_t n_keep, int null_fd, int out_fd)
{
	struct sigaction dfl = {.sa_handler = SIG_DFL};
	for (int s = 1; s < NSIG; s++)
		sigaction(s, &dfl, NULL); /* KILL, STOP and libc's own refuse: fine */
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);

	/* A real-time thread of ours may be the one that forks. */
	if (sched_getscheduler(0) != SCHED_OTHER)
		sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){0});
	if (setsid() < 0)
		return errno;
	if (dup2(null_fd, 0) < 0 || dup2(out_fd, 1) < 0 || dup2(out_fd, 2) < 0)
		return errno;
	/* Not closed here but by exec: the pipe that reports a failed exec must live until then. */
	if (close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
		return errno;
	for (size_t i = 0; i < n_keep; i++)
		if (fcntl(keep[i], F_SETFD, 0) < 0)
			return errno;
	return 0;
}

static void __attribute__((noreturn)) child(char *const argv[], const int *keep, size_t n_keep,
	int null_fd, int out_fd, const struct guest_user *user, int report_fd)
{
	struct failure f = {child_setup(keep, n_keep, null_fd, out_fd), false};
	if (f.error == 0 && user->at_start) {
		/* The last step: everything before it was done as root. */
		f.error = -guest_user_become(user);
		f.user = f.error != 0;
	}
	if (f.error == 0) {
		execvp(argv[0], argv);
		f.error = errno;
	}
	ssize_t n = write(report_fd, &f, sizeof f);
	_exit(n == sizeof f ? 127 : 126);
}

static int explain(
	char *const argv[], const struct guest_user *user, struct failure f, struct mc_error *err)
{
	int e = f.error ? f.error : EIO;
	if (f.user)
		return mc_error_set(err, -e, MC_ECLASS_PERMISSION,
			"cannot run QEMU as %s: %s; mcd needs CAP_SETUID and CAP_SETGID",
			user->name, strerror(e));
	return mc_error_set(err, -e, MC_ECLASS_CONFIG,
		"cannot run %s%s%s: %s; install QEMU or correct the first word of the VM's command",
		argv[0], user->at_start ? " as " : "", user->at_start ? user->name : "",
		strerror(e));
}

int guest_spawn(char *const argv[], const int *keep, size_t n_keep, int out_fd,
	const struct guest_user *user, pid_t *ret_pid, int *ret_pidfd, struct mc_error *err)
{
	for (size_t i = 0; i < n_keep; i++)
		if (keep[i] <= 2)
			return mc_error_set(err, -EBADF, MC_ECLASS_FAILED,
				"descriptor %d cannot be handed to QEMU: start mcd with open "
				"standard descriptors",
				keep[i]);
	_cleanup_close_ int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (null_fd < 0)
		return mc_error_set(err, -errno, MC_ECLASS_FAILED, "cannot open /dev/null: %s",
			strerror(errno));
	int pipes[2];
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return mc_error_set(
			err, -errno, MC_ECLASS_FAILED, "cannot make a pipe: %s", strerror(errno));
	_cleanup_close_ int report_rd = pipes[0], report_wr = pipes[1];

	/* No handler of ours may run in the child before it has reset them. */
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pid_t pid = fork();
	int fork_errno = errno;
	if (pid == 0)
		child(argv, keep, n_keep, null_fd, out_fd, user, report_wr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (pid < 0)
		return mc_error_set(err, -fork_errno, MC_ECLASS_MEMORY,
			"cannot fork to start QEMU: %s", strerror(fork_errno));

	int pidfd = pidfd_open(pid, 0); /* our child, not reaped yet: surely still itself */
	int pidfd_errno = errno;
	close(mc_steal_fd(&report_wr));
	struct failure f = {0};
	ssize_t n;
	do /* ends at once: with the exec, or with the child */
		n = read(report_rd, &f, sizeof f);
	while (n < 0 && errno == EINTR);
	if (n == 0 && pidfd >= 0) {
		*ret_pid = pid;
		*ret_pidfd = pidfd;
		return 0;
	}

	kill(pid, SIGKILL); /* still unreaped, hence no stranger */
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	if (pidfd >= 0)
		close(pidfd);
	if (n == 0)
		return mc_error_set(err, -pidfd_errno, MC_ECLASS_KERNEL, "pidfd_open: %s",
			strerror(pidfd_errno));
	return explain(argv, user, f, err);
}
