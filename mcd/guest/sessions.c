/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The QMP sessions with QEMU: opened, with nobody else, and made whole again. */
#include "mcd/guest/guest-private.h"

#include "common/clock.h"

#include <errno.h>
#include <sys/socket.h>

int guest_check_peer(const struct guest *g, const struct qmp *qmp, struct mc_error *err)
{
	struct ucred peer = {0};
	socklen_t len = sizeof peer;
	if (getsockopt(qmp_fd(qmp), SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
		peer.pid == g->pid)
		return 0;
	return mc_error_set(err, -EPERM, MC_ECLASS_PERMISSION,
		"the QMP socket of %s is not of its QEMU (pid %d), but of process %d; end that "
		"process, and look how it got there",
		g->name, (int)g->pid, (int)peer.pid);
}

int guest_open_sessions(struct guest *g, const char *qmp_path, const char *oob_path, bool incoming,
	uint64_t deadline, struct mc_error *err)
{
	int r = qmp_open_watch(qmp_path, false, g->pidfd, deadline, &g->qmp, err);
	if (r == 0)
		r = qmp_open_watch(oob_path, true, g->pidfd, deadline, &g->oob, err);
	if (r == 0 && (r = guest_check_peer(g, g->qmp, err)) == 0)
		r = guest_check_peer(g, g->oob, err);
	if (r == 0 && incoming)
		r = qmp_command(g->qmp, "migrate-set-capabilities",
			json_pack("{s:[{s:s, s:b}]}", "capabilities", "capability", "events",
				"state", 1),
			5 * MC_SEC, NULL, err);
	return r < 0 ? guest_explain(g, r, err) : 0;
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

int guest_require(struct guest *g, struct mc_error *err)
{
	static const char *const needed[] = {
		"stop",
		"cont",
		"query-status",
		"system_powerdown",
		"quit",
		"human-monitor-command",
		"query-memdev",
		"xen-save-devices-state",
		"migrate-incoming",
		"migrate-set-capabilities",
		"yank",
		"blockdev-add",
		"blockdev-del",
		"blockdev-mirror",
		"query-block-jobs",
		"query-blockstats",
		"query-named-block-nodes",
		NULL,
	};
	int r = qmp_require_commands(g->qmp, needed, err);
	return r < 0 ? guest_explain(g, r, err) : 0;
}
