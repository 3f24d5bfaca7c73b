/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What QEMU died of or why it does not answer. */
#include "mcd/guest/guest-private.h"

#include "common/cleanup.h"
#include "common/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* How it ended, without reaping it. */
static void describe_end(const struct qemu *q, char *buf, size_t size)
{
	siginfo_t si = {0};
	if (waitid(P_PIDFD, (id_t)q->guest.pidfd, &si, WEXITED | WNOHANG | WNOWAIT) < 0 ||
		si.si_pid == 0)
		snprintf(buf, size, "QEMU (pid %d) has ended", (int)q->guest.pid);
	else if (si.si_code == CLD_EXITED)
		snprintf(buf, size, "QEMU (pid %d) exited with status %d", (int)q->guest.pid,
			si.si_status);
	else
		snprintf(buf, size, "QEMU (pid %d) was killed by signal %d (%s)", (int)q->guest.pid,
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

int qemu_explain(struct qemu *q, int r, struct mc_error *err)
{
	if (!err)
		return r;
	char old[sizeof err->msg], words[420], end[128];
	memcpy(old, err->msg, sizeof old);
	if (r == -ETIMEDOUT)
		return mc_error_set(err, r, err->cls, "%.500s%s", old,
			explain_silence(process_state(q->guest.pid)));
	/* QEMU closed its session or failed to load: it is about to be gone, and then it says how.
	 */
	if ((r == -EPIPE || r == -EIO) && guest_gone_within(&q->guest, MC_SEC)) {
		describe_end(q, end, sizeof end);
		qemu_log_last_words(q, words, sizeof words);
		return mc_error_set(err, r, err->cls, "%s%s%s (its output is in %s/qemu.log)", end,
			*words ? ": " : "", words, q->run_dir);
	}
	return r;
}
