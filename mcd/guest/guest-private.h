/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by the files that implement guest.h only. */
#pragma once
#include "mcd/guest/guest.h"
#include "mcd/guest/user.h"
#include <sys/types.h>

#define GUEST_EVENTS_MAX 64

struct guest {
	pid_t pid;
	int pidfd;
	char *name; /* the VM's, for messages */
	char *run_dir;
	off_t log_start; /* where the output of this QEMU begins in qemu.log */

	struct qmp *qmp, *oob;

	/* Memory files that QEMU inherited under the same number: it writes its device state to the
	 * one, and reads it from the other (-1 unless launched with `incoming`, and once used). */
	int devices_fd, incoming_fd;
	int devices_number, incoming_number; /* what QEMU knows them by; ours differ after guest_adopt */

	/* What happened by itself and was not asked for yet: a ring, oldest first. */
	enum guest_event events[GUEST_EVENTS_MAX];
	size_t events_head, events_n;
	unsigned resumes; /* since the oob session was drained */
	bool stay_stopped; /* guest_activate is not to make it run */
	bool standing;     /* from guest_pause to guest_resume */
	bool runs;         /* what the newest of its events says */
	bool ran, was_reset; /* and by somebody else it ran meanwhile, or was reset since its state was saved */
};

/* Where QEMU makes its sockets, below run_dir: QEMU's user's own, all else there is root's. */
#define GUEST_SOCKETS "qemu"
#define GUEST_QMP     GUEST_SOCKETS "/qmp.sock"
#define GUEST_QMP_OOB GUEST_SOCKETS "/qmp-oob.sock"

/* "RUN_DIR/LEAF", malloc'd, or NULL. */
char *guest_path(const struct guest *g, const char *leaf);

/* Adds to a failure what the administrator would look up next: how QEMU ended and its last words,
 * or why its process does not answer.  Returns err's code, r if err is NULL. */
int guest_explain(struct guest *g, int r, struct mc_error *err);

/* Both sessions, with QEMU and nobody else; incoming: and the events that guest_activate waits for. */
int guest_open_sessions(struct guest *g, const char *qmp_path, const char *oob_path, bool incoming,
	uint64_t deadline, struct mc_error *err);
/* That QEMU itself is at the other end: the sockets' directory is its user's, who could have put
 * another VM's in their place. */
int guest_check_peer(const struct guest *g, const struct qmp *qmp, struct mc_error *err);

/* Takes what the QMP session has into the ring.  The first event of kind `own` (GUEST_EVENT_NONE:
 * no kind) is the echo of our own command and is left out; returns whether it was there. */
bool guest_absorb(struct guest *g, enum guest_event own);

/* Starts argv detached from us: a session of its own, default signals, no descriptors but keep[]
 * (same numbers, each > 2), stdin from /dev/null, output to out_fd, as that user (if at_start).  A
 * failed exec is reported here. */
int guest_spawn(char *const argv[], const int *keep, size_t n_keep, int out_fd,
	const struct guest_user *user, pid_t *ret_pid, int *ret_pidfd, struct mc_error *err);

/* Changes this process, a child of ours, to the user; -errno.  Async-signal-safe. */
int guest_user_become(const struct guest_user *u);

/* qemu.log.  open: appends, sets g->log_start.  last_words: the last line or two that this QEMU
 * wrote, "" if nothing. */
int guest_log_open(struct guest *g, char *const argv[], struct mc_error *err);
void guest_log_last_words(const struct guest *g, char *buf, size_t size);

/* The pid file.  check: refuses (-EBUSY) while a QEMU of an earlier mcd still uses this run dir. */
int guest_pidfile_check(const struct guest *g, const char *qmp_path, struct mc_error *err);
int guest_pidfile_write(const struct guest *g, struct mc_error *err);
