/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The QMP sessions with QEMU: opened, with nobody else, and made whole again. */
#include "mcd/guest/guest-private.h"

#include "common/clock.h"

#include <errno.h>
#include <sys/socket.h>

int qemu_check_peer(const struct qemu *q, const struct qmp *qmp, struct mc_error *err)
{
	struct ucred peer = {0};
	socklen_t len = sizeof peer;
	if (getsockopt(qmp_fd(qmp), SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
		peer.pid == q->guest.pid)
		return 0;
	return mc_error_set(err, -EPERM, MC_ECLASS_PERMISSION,
		"the QMP socket of %s is not of its QEMU (pid %d), but of process %d; end that "
		"process, and look how it got there",
		q->name, (int)q->guest.pid, (int)peer.pid);
}

int qemu_open_sessions(struct qemu *q, const char *qmp_path, const char *oob_path, bool incoming,
	uint64_t deadline, struct mc_error *err)
{
	int r = qmp_open_watch(qmp_path, false, q->guest.pidfd, deadline, &q->qmp, err);
	if (r == 0)
		r = qmp_open_watch(oob_path, true, q->guest.pidfd, deadline, &q->oob, err);
	if (r == 0 && (r = qemu_check_peer(q, q->qmp, err)) == 0)
		r = qemu_check_peer(q, q->oob, err);
	if (r == 0) {
		qmp_want_events(q->qmp, qemu_events);
		qmp_want_events(q->oob, qemu_events);
	}
	if (r == 0 && incoming)
		r = qmp_command(q->qmp, "migrate-set-capabilities",
			json_pack("{s:[{s:s, s:b}]}", "capabilities", "capability", "events",
				"state", 1),
			5 * MC_SEC, NULL, err);
	return r < 0 ? qemu_explain(q, r, err) : 0;
}

int qemu_ping(struct guest *g, uint64_t timeout_ns, struct mc_error *err)
{
	struct qemu *q = qemu_of(g);
	uint64_t deadline = mc_now() + timeout_ns, now;
	int r = qmp_command(q->qmp, "query-status", NULL, timeout_ns, NULL, err);
	/* A session that broke on an earlier time-out: QEMU itself may be well again. */
	if (r == -EPIPE && guest_alive(&q->guest) && (r = qmp_reopen(q->qmp, deadline, err)) == 0 &&
		(r = qemu_check_peer(q, q->qmp, err)) == 0)
		r = qmp_command(q->qmp, "query-status", NULL,
			(now = mc_now()) < deadline ? deadline - now : 0, NULL, err);
	return r < 0 ? qemu_explain(q, r, err) : 0;
}

int qemu_require(struct guest *g, struct mc_error *err)
{
	struct qemu *q = qemu_of(g);
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
	int r = qmp_require_commands(q->qmp, needed, err);
	return r < 0 ? qemu_explain(q, r, err) : 0;
}
