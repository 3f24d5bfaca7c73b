// SPDX-License-Identifier: GPL-2.0-or-later
/* The life of a QEMU process seen from outside: is it there, what does it die of, how to end it. */
#include "mcd/guest/guest-private.h"

#include "common/cleanup.h"
#include "common/clock.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEATH_WAIT (5 * MC_SEC) /* for the kernel to tear down a killed QEMU and its memory */

struct qmp *guest_qmp(struct guest *g)
{
	return g->qmp;
}

struct qmp *guest_qmp_oob(struct guest *g)
{
	return g->oob;
}

pid_t guest_pid(const struct guest *g)
{
	return g->pid;
}

int guest_pidfd(const struct guest *g)
{
	return g->pidfd;
}

/* True once QEMU is gone, which is waited for until the deadline. */
static bool wait_gone(const struct guest *g, uint64_t deadline)
{
	struct pollfd p = {.fd = g->pidfd, .events = POLLIN};
	for (;;) {
		int r = poll(&p, 1, mc_ms_left(deadline));
		if (r != -1 || errno != EINTR)
			return r > 0;
	}
}

bool guest_alive(const struct guest *g)
{
	return !wait_gone(g, 0);
}

bool guest_gone_within(const struct guest *g, uint64_t ns)
{
	return wait_gone(g, ns ? mc_now() + ns : 0);
}

int guest_ping(struct guest *g, uint64_t timeout_ns, struct mc_error *err)
{
	uint64_t deadline = mc_now() + timeout_ns, now;
	int r = qmp_command(g->qmp, "query-status", NULL, timeout_ns, NULL, err);
	/* A session that broke on an earlier time-out: QEMU itself may be well again. */
	if (r == -EPIPE && guest_alive(g) && (r = qmp_reopen(g->qmp, deadline, err)) == 0 &&
		(r = guest_check_peer(g, g->qmp, err)) == 0)
		r = qmp_command(g->qmp, "query-status", NULL, (now = mc_now()) < deadline ? deadline - now : 0,
			NULL, err);
	return r < 0 ? guest_explain(g, r, err) : 0;
}

/* How it ended, without reaping it. */
static void describe_end(const struct guest *g, char *buf, size_t size)
{
	siginfo_t si = {0};
	if (waitid(P_PIDFD, (id_t)g->pidfd, &si, WEXITED | WNOHANG | WNOWAIT) < 0 || si.si_pid == 0)
		snprintf(buf, size, "QEMU (pid %d) has ended", (int)g->pid);
	else if (si.si_code == CLD_EXITED)
		snprintf(buf, size, "QEMU (pid %d) exited with status %d", (int)g->pid,
			si.si_status);
	else
		snprintf(buf, size, "QEMU (pid %d) was killed by signal %d (%s)", (int)g->pid,
			si.si_status, strsignal(si.si_status));
}

static char process_state(pid_t pid)
{
	char path[64], line[512], state = '?';
	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	if (f && fgets(line, sizeof line, f)) {
		char *paren = strrchr(line, ')'); /* the name in front may hold anything */
		if (paren && paren[1] == ' ')
			state = paren[2];
	}
	return state;
}

static const char *explain_silence(char state)
{
	switch (state) {
	case 'T':
		return "; its process is stopped: somebody sent it SIGSTOP, send SIGCONT to go on";
	case 't':
		return "; its process is held by a debugger: detach it";
	case 'D':
		return "; its process waits for the kernel: storage that does not answer?";
	default:
		return "";
	}
}

int guest_explain(struct guest *g, int r, struct mc_error *err)
{
	if (!err)
		return r;
	char old[sizeof err->msg], words[420], end[128];
	memcpy(old, err->msg, sizeof old);
	if (r == -ETIMEDOUT)
		return mc_error_set(
			err, r, err->cls, "%.500s%s", old, explain_silence(process_state(g->pid)));
	/* QEMU closed its session or failed to load: it is about to be gone, and then it says how.
	 */
	if ((r == -EPIPE || r == -EIO) && wait_gone(g, mc_now() + MC_SEC)) {
		describe_end(g, end, sizeof end);
		guest_log_last_words(g, words, sizeof words);
		return mc_error_set(err, r, err->cls, "%s%s%s (its output is in %s/qemu.log)", end,
			*words ? ": " : "", words, g->run_dir);
	}
	return r;
}

static void reap(struct guest *g)
{
	siginfo_t si;
	waitid(P_PIDFD, (id_t)g->pidfd, &si,
		WEXITED | WNOHANG); /* ECHILD when it is not our child */
}

static void remove_leaf(const struct guest *g, const char *leaf)
{
	_cleanup_free_ char *path = guest_path(g, leaf);
	if (path)
		unlink(path);
}

void guest_kill(struct guest *g)
{
	if (!g || g->pidfd < 0)
		return;
	pidfd_send_signal(g->pidfd, SIGKILL, NULL, 0);
	/* The names stay while it is not surely dead: they keep a second QEMU from starting. */
	if (!wait_gone(g, mc_now() + DEATH_WAIT))
		return;
	reap(g);
	remove_leaf(g, GUEST_QMP);
	remove_leaf(g, GUEST_QMP_OOB);
	remove_leaf(g, "pid");
}

/* With -no-shutdown QEMU stays when its guest has gone: then it is told to go, too. */
static void quit_after_guest(struct guest *g)
{
	enum guest_event ev;
	while ((ev = guest_next_event(g)) != GUEST_EVENT_NONE && ev != GUEST_EVENT_GONE)
		if (ev == GUEST_EVENT_SHUTDOWN)
			qmp_command(g->qmp, "quit", NULL, 2 * MC_SEC, NULL, NULL);
}

int guest_shutdown(struct guest *g, uint64_t deadline, struct mc_error *err)
{
	if (!guest_alive(g)) {
		guest_kill(g);
		return 0;
	}
	int r = qmp_command(g->qmp, "system_powerdown", NULL, 2 * MC_SEC, NULL, err);
	if (r < 0)
		guest_explain(g, r, err);
	struct pollfd p[] = {
		{.fd = g->pidfd, .events = POLLIN},
		{.fd = qmp_fd(g->qmp), .events = POLLIN},
	};
	while (r == 0) {
		quit_after_guest(g);
		if (wait_gone(g, 0))
			break;
		int left = mc_ms_left(deadline);
		if (!left)
			r = mc_error_set(err, -ETIMEDOUT, MC_ECLASS_TIMEOUT,
				"%s did not power off when asked to (does its system handle the "
				"power button?), and was killed",
				g->name);
		else
			poll(p, 2, left);
		if (p[1].revents & (POLLHUP | POLLERR))
			p[1].fd = -1; /* closed: only its death remains to be waited for */
	}
	guest_kill(g);
	return r;
}

void guest_free(struct guest *g)
{
	if (!g)
		return;
	qmp_close(g->qmp);
	qmp_close(g->oob);
	if (g->pidfd >= 0) {
		reap(g);
		close(g->pidfd);
	}
	if (g->devices_fd >= 0)
		close(g->devices_fd);
	if (g->incoming_fd >= 0)
		close(g->incoming_fd);
	free(g->name);
	free(g->run_dir);
	free(g);
}

void guest_detach(struct guest *g)
{
	guest_free(g);
}
