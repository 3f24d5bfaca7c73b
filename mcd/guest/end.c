/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Ending a QEMU, and what it leaves behind. */
#include "mcd/guest/guest-private.h"

#include "common/cleanup.h"
#include "common/clock.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEATH_WAIT (5 * MC_SEC) /* for the kernel to tear down a killed QEMU and its memory */

static void reap(struct qemu *q)
{
	siginfo_t si;
	waitid(P_PIDFD, (id_t)q->guest.pidfd, &si,
		WEXITED | WNOHANG); /* ECHILD when it is not our child */
}

static void remove_leaf(const struct qemu *q, const char *leaf)
{
	_cleanup_free_ char *path = qemu_path(q, leaf);
	if (path)
		unlink(path);
}

void qemu_kill(struct guest *g)
{
	struct qemu *q = qemu_of(g);
	if (g->pidfd < 0)
		return;
	pidfd_send_signal(q->guest.pidfd, SIGKILL, NULL, 0);
	/* The names stay while it is not surely dead: they keep a second QEMU from starting. */
	if (!guest_gone_within(&q->guest, DEATH_WAIT))
		return;
	reap(q);
	remove_leaf(q, GUEST_QMP);
	remove_leaf(q, GUEST_QMP_OOB);
	remove_leaf(q, "pid");
}

/* With -no-shutdown QEMU stays when its guest has gone: then it is told to go, too. */
static void quit_after_guest(struct qemu *q)
{
	/* No more than the ring has: one that tells without end is still ended at the deadline. */
	for (int i = 0; i < GUEST_EVENTS_MAX; i++) {
		enum guest_event ev = qemu_next_event(&q->guest);
		if (ev == GUEST_EVENT_SHUTDOWN)
			qmp_command(q->qmp, "quit", NULL, 2 * MC_SEC, NULL, NULL);
		if (ev == GUEST_EVENT_SHUTDOWN || ev == GUEST_EVENT_NONE || ev == GUEST_EVENT_GONE)
			return;
	}
}

int qemu_shutdown(struct guest *g, uint64_t deadline, struct mc_error *err)
{
	struct qemu *q = qemu_of(g);
	if (!guest_alive(&q->guest)) {
		qemu_kill(&q->guest);
		return 0;
	}
	int r = qmp_command(q->qmp, "system_powerdown", NULL, 2 * MC_SEC, NULL, err);
	if (r < 0)
		qemu_explain(q, r, err);
	struct pollfd p[] = {
		{.fd = q->guest.pidfd, .events = POLLIN},
		{.fd = qmp_fd(q->qmp), .events = POLLIN},
	};
	while (r == 0) {
		quit_after_guest(q);
		if (guest_gone_within(&q->guest, 0))
			break;
		int left = mc_ms_left(deadline);
		if (!left)
			r = mc_error_set(err, -ETIMEDOUT, MC_ECLASS_TIMEOUT,
				"%s did not power off when asked to (does its system handle the "
				"power button?), and was killed",
				q->name);
		else
			poll(p, 2, left);
		if (p[1].revents & (POLLHUP | POLLERR))
			p[1].fd = -1; /* closed: only its death remains to be waited for */
	}
	qemu_kill(&q->guest);
	return r;
}

void qemu_free(struct guest *g)
{
	struct qemu *q = qemu_of(g);
	qmp_close(q->qmp);
	qmp_close(q->oob);
	if (q->guest.pidfd >= 0) {
		reap(q);
		close(q->guest.pidfd);
	}
	if (q->devices_fd >= 0)
		close(q->devices_fd);
	if (q->incoming_fd >= 0)
		close(q->incoming_fd);
	json_decref(q->first_devices);
	free(q->name);
	free(q->run_dir);
	free(q);
}
