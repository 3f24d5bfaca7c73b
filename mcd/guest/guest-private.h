/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A guest that is a QEMU: shared by the files that implement it, and their tests. */
#pragma once
#include "common/qmp.h"
#include "mcd/guest/ops.h"
#include "mcd/guest/user.h"
#include <sys/types.h>

#define GUEST_EVENTS_MAX 64

struct qemu {
	struct guest guest; /* pid -1, pidfd -1: not started yet */
	char *name;         /* the VM's, for messages */
	char *run_dir;
	off_t log_start; /* where the output of this QEMU begins in qemu.log */

	/* QMP sessions: the first is the thread's own; the second, oob-enabled, for yank. */
	struct qmp *qmp, *oob;

	/* Memory files that QEMU inherited under the same number: it writes its device state to the
	 * one, and reads it from the other (-1 unless launched with `incoming`, and once used). */
	int devices_fd, incoming_fd;
	/* What QEMU knows them by; ours differ after qemu_adopt. */
	int devices_number, incoming_number;

	/* What happened by itself and was not asked for yet: a ring, oldest first. */
	enum guest_event events[GUEST_EVENTS_MAX];
	size_t events_head, events_n;
	unsigned resumes;  /* since the oob session was drained */
	bool stay_stopped; /* guest_activate is not to make it run */
	bool standing;     /* from guest_pause to guest_resume */
	bool runs;         /* what the newest of its events says */
	/* It panicked and did not go on since.  QEMU tells of that before it stops it. */
	bool panicked;
	/* And by somebody else it ran meanwhile, or was reset since its state was saved. */
	bool ran, was_reset;

	/* inventory.c: the paths of the devices that it had when that was first asked, and how many
	 * of them were deleted since. */
	json_t *first_devices;
	unsigned replaced;
	char replaced_device[GUEST_DEVICE_MAX + 1]; /* the last of them */
	bool no_drives;                             /* whose medium could be changed */
};

/* Where QEMU makes its sockets, below run_dir: QEMU's user's own, all else there is root's. */
#define GUEST_SOCKETS "qemu"
#define GUEST_QMP     GUEST_SOCKETS "/qmp.sock"
#define GUEST_QMP_OOB GUEST_SOCKETS "/qmp-oob.sock"

static inline struct qemu *qemu_of(struct guest *g)
{
	return (struct qemu *)g;
}

/* One that is not started yet.  NULL: no memory. */
struct qemu *qemu_new(const char *name, const char *run_dir);

/* "RUN_DIR/LEAF", malloc'd, or NULL. */
char *qemu_path(const struct qemu *q, const char *leaf);

/* Adds to a failure what the administrator would look up next: how QEMU ended and its last words,
 * or why its process does not answer.  Returns err's code, r if err is NULL. */
int qemu_explain(struct qemu *q, int r, struct mc_error *err);

/* Opens both sessions, with QEMU and nobody else; incoming: and the events that guest_activate
 * waits for. */
int qemu_open_sessions(struct qemu *q, const char *qmp_path, const char *oob_path, bool incoming,
	uint64_t deadline, struct mc_error *err);
/* That QEMU itself is at the other end: the sockets' directory is its user's, who could have put
 * another VM's in their place. */
int qemu_check_peer(const struct qemu *q, const struct qmp *qmp, struct mc_error *err);

/* The events that the sessions keep (events.c). */
extern const char *const qemu_events[];

/* Takes what the QMP session has into the ring.  The first event of kind `own` (GUEST_EVENT_NONE:
 * no kind) is the echo of our own command and is left out; returns whether it was there. */
bool qemu_absorb(struct qemu *q, enum guest_event own);

/* Starts argv detached from us: a session of its own, default signals, no descriptors but keep[]
 * (same numbers, each > 2), stdin from /dev/null, output to out_fd, as that user (if at_start).  A
 * failed exec is reported here. */
int guest_spawn(char *const argv[], const int *keep, size_t n_keep, int out_fd,
	const struct guest_user *user, pid_t *ret_pid, int *ret_pidfd, struct mc_error *err);

/* Changes this process, a child of ours, to the user; -errno.  Async-signal-safe. */
int guest_user_become(const struct guest_user *u);

/* qemu.log.  open: appends, sets q->log_start.  last_words: the last line or two that this QEMU
 * wrote, "" if nothing. */
int qemu_log_open(struct qemu *q, char *const argv[], struct mc_error *err);
void qemu_log_last_words(const struct qemu *q, char *buf, size_t size);

/* The pid file.  check: refuses (-EBUSY) while a QEMU of an earlier mcd still uses this run dir. */
int qemu_pidfile_check(const struct qemu *q, const char *qmp_path, struct mc_error *err);
int qemu_pidfile_write(const struct qemu *q, struct mc_error *err);

/* The functions of guest_ops and guest_source, each in the file of its subject. */
int qemu_launch(const struct guest_launch *l, struct guest **ret, struct mc_error *err);
int qemu_adopt(const struct config_vm *vm, const char *run_dir, uint64_t deadline,
	struct guest **ret, int *ret_taps, enum guest_adopted *ret_how, struct mc_error *err);
/* The number of its memory file of that name; -1: it has none. */
int qemu_memory_file(pid_t pid, const char *name);
/* Its descriptor of that number, here; what: for the message, if it has none. */
int qemu_bring(const struct qemu *q, int number, const char *what, int *ret, struct mc_error *err);
int qemu_bring_ram(
	struct guest *g, const struct cmdline_plan *plan, int *ret_fds, struct mc_error *err);
int qemu_require(struct guest *g, struct mc_error *err);
int qemu_ping(struct guest *g, uint64_t timeout_ns, struct mc_error *err);
int qemu_pause(struct guest *g, uint64_t timeout_ns, bool *ret_was_running, struct mc_error *err);
int qemu_cont(struct guest *g, uint64_t timeout_ns, struct mc_error *err);
int qemu_stood_still(struct guest *g, uint64_t timeout_ns, struct mc_error *err);
bool qemu_take_reset(struct guest *g);
int qemu_reset(struct guest *g, uint64_t timeout_ns, struct mc_error *err);
int qemu_why_stopped(
	struct guest *g, uint64_t timeout_ns, enum guest_event *ret, struct mc_error *err);
int qemu_save_devices(struct guest *g, uint64_t timeout_ns, uint8_t **buf, size_t *cap,
	size_t *ret_len, struct mc_error *err);
int qemu_activate(struct guest *g, const uint8_t *state, size_t len, uint64_t timeout_ns,
	uint64_t *ret_loaded_at, struct mc_error *err);
int qemu_stay_stopped(struct guest *g, uint64_t timeout_ns, struct mc_error *err);
enum guest_event qemu_next_event(struct guest *g);
void qemu_event_back(struct guest *g, enum guest_event ev);
int qemu_shutdown(struct guest *g, uint64_t deadline, struct mc_error *err);
void qemu_kill(struct guest *g);
void qemu_free(struct guest *g);
int qemu_migratable(struct guest *g, uint64_t timeout_ns, struct mc_error *err);
int qemu_inventory(
	struct guest *g, uint64_t timeout_ns, struct guest_inventory *ret, struct mc_error *err);
int qemu_disk_size(struct guest *g, const char *disk, uint64_t timeout_ns, uint64_t *ret,
	struct mc_error *err);
int qemu_disk_flushes(struct guest *g, uint64_t timeout_ns, uint64_t *ret, struct mc_error *err);
int qemu_mirror_begin(struct guest *g, const char *disk, const char *socket, uint64_t timeout_ns,
	struct mc_error *err);
int qemu_mirror_look(struct guest *g, const char *disk, uint64_t timeout_ns,
	struct guest_mirror *ret, struct mc_error *err);
int qemu_mirror_check(
	struct guest *g, const struct config_vm *vm, uint64_t timeout_ns, struct mc_error *err);
int qemu_mirror_end(struct guest *g, const char *disk, uint64_t timeout_ns, struct mc_error *err);
int qemu_mirror_yank(
	struct guest *g, const struct config_vm *vm, uint64_t timeout_ns, struct mc_error *err);
int qemu_export_begin(struct guest *g, const char *disk, const char *socket, uint64_t timeout_ns,
	struct mc_error *err);
void qemu_export_end(struct guest *g, const char *disk, uint64_t timeout_ns);
