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
	if (!guest_gone_within(g, DEATH_WAIT))
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
		if (guest_gone_within(g, 0))
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
