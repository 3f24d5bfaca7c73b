/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What we ask of a stock QEMU: launch, pause, capture the device state, resume, activate. A guest
 * belongs to its VM's thread, except guest_pidfd (the control loop polls it).  The unit tests of
 * those who ask have a fake one (ops.h).
 */
#pragma once
#include "common/error.h"
#include "mcd/guest/agent.h"
#include "mcd/guest/cmdline/cmdline.h"
#include "mcd/guest/dirty/dirty.h"
#include "mcd/guest/ramblocks.h"
#include "mcd/guest/roms.h"
#include <stdbool.h>
#include <stdint.h>

struct guest;

struct guest_launch {
	const struct config_vm *vm;
	const struct cmdline_plan *plan;
	const char *run_dir; /* RUN_DIR/NAME: sockets, pid file, qemu.log; made if missing */
	const int *ram_fds;  /* plan->n_ram memfds of the right size; stay the caller's */
	const int *tap_fds;  /* vm->n_nics */
	const struct cmdline_disk *disks; /* vm->n_disks */
	bool incoming;                    /* a standby, waiting with -incoming defer */
	uint64_t deadline;                /* for QEMU to answer QMP */
};

enum guest_adopted { GUEST_ADOPTED_RUNNING, GUEST_ADOPTED_STOPPED, GUEST_ADOPTED_WAITING };

/* Where guests come from. */
struct guest_source {
	/* Starts QEMU in a process group and session of its own, outliving us, its output in
	 * qemu.log; on failure the message ends with the last line QEMU wrote.  Writes
	 * RUN_DIR/NAME/pid. */
	int (*launch)(const struct guest_launch *l, struct guest **ret, struct mc_error *err);

	/* Takes over a QEMU that a former mcd started for this VM in run_dir.  ret_taps: vm->n_nics
	 * descriptors, the caller's.  ret_how: it runs, it is stopped (by the former mcd, or by its
	 * administrator: it cannot be told, and counts as ours), or it is a standby's, waiting.
	 * -ENOENT, without a message: there is none. -ETIMEDOUT: it does not answer. */
	int (*adopt)(const struct config_vm *vm, const char *run_dir, uint64_t deadline,
		struct guest **ret, int *ret_taps, enum guest_adopted *ret_how,
		struct mc_error *err);
};
extern const struct guest_source guest_qemu;

pid_t guest_pid(const struct guest *g);
int guest_pidfd(const struct guest *g); /* readable once QEMU is gone */
bool guest_alive(const struct guest *g);
/* Waits for QEMU to be gone: a dying process closes its sockets a moment before it is. */
bool guest_gone_within(const struct guest *g, uint64_t ns);

/* See guest_next_event. */
enum guest_event {
	GUEST_EVENT_NONE,
	GUEST_EVENT_SHUTDOWN,
	GUEST_EVENT_RESET,
	GUEST_EVENT_PANICKED,
	GUEST_EVENT_GONE,
	GUEST_EVENT_STOPPED,
	GUEST_EVENT_RESUMED
};

/* Does QEMU answer?  Makes a session whole that broke on an earlier time-out. */
int guest_ping(struct guest *g, uint64_t timeout_ns, struct mc_error *err);

/* Stops the vCPUs and drains disk I/O, and remembers who stopped the guest: after a pause it is
 * us, unless somebody else (the administrator, a panic) had stopped it before.  A pause that
 * failed may have stopped it all the same, and counts as ours: better to resume a running guest
 * than to leave one stopped. -ETIMEDOUT: QEMU hangs. */
int guest_pause(struct guest *g, uint64_t timeout_ns, struct mc_error *err);
/* Makes it run again if it was us who stopped it; else 0, and nothing is done. */
int guest_resume(struct guest *g, uint64_t timeout_ns, struct mc_error *err);
/* Whether it stands, or perhaps does, and guest_resume would make it run. False for NULL. */
bool guest_paused_by_us(const struct guest *g);
/* Makes it run whoever stopped it: after a panic and a reset. */
int guest_continue(struct guest *g, uint64_t timeout_ns, struct mc_error *err);
/* Whether nobody made it run, or reset it, between the last guest_pause and the guest_resume
 * after it, or until now if there was none.  -EIO: somebody did, so what was read meanwhile is of
 * no one moment. */
int guest_stood_still(struct guest *g, uint64_t timeout_ns, struct mc_error *err);
/* Whether it was reset since the last guest_pause, as far as was told yet, which is forgotten by
 * asking: whoever asks reads anew what was read before.  A reset that the guest had begun just
 * before it was stopped is done while it stands. */
bool guest_take_reset(struct guest *g);
/* The reset button. The guest is not resumed by it. */
int guest_reset(struct guest *g, uint64_t timeout_ns, struct mc_error *err);

/* Why it stands: SHUTDOWN, PANICKED, or STOPPED by anybody; NONE if it runs. Consumes no event. */
int guest_why_stopped(
	struct guest *g, uint64_t timeout_ns, enum guest_event *ret, struct mc_error *err);

/* Saves the device state of the paused guest into *buf (malloc'd, grown, reused: *cap) */
int guest_save_devices(struct guest *g, uint64_t timeout_ns, uint8_t **buf, size_t *cap,
	size_t *ret_len, struct mc_error *err);

/* On a standby, once: loads the device state and runs.  Returns once QEMU says it is running.
 * ret_loaded_at (may be NULL): when the device state was in.  After a failure only guest_kill. */
int guest_activate(struct guest *g, const uint8_t *state, size_t len, uint64_t timeout_ns,
	uint64_t *ret_loaded_at, struct mc_error *err);

/* Whether guest_activate was called: it is of no use for another. */
bool guest_activated(const struct guest *g);

/* Before guest_activate: with its state loaded the guest is to stand, as it did when it was
 * saved. */
int guest_stay_stopped(struct guest *g, uint64_t timeout_ns, struct mc_error *err);

/* The next thing that happened to the guest by itself, from QMP events (non-blocking); the echoes
 * of guest_pause and guest_resume are none.  SHUTDOWN: it powered off, PANICKED: it says that it
 * crashed (it needs a pvpanic device for that); QEMU is there in both cases, its vCPUs stopped.
 * GONE comes last, and again whenever asked.  The guest_* functions consume all events of the
 * first session: wait for others on a session of your own. */
enum guest_event guest_next_event(struct guest *g);
/* Puts an event back in front, for a reader who comes later and can act on it. */
void guest_event_back(struct guest *g, enum guest_event ev);

/* Powers the guest off: asks it (system_powerdown) and waits until the deadline, then kills.  In
 * every case QEMU is gone afterwards; negative says that it had to be killed, and why. */
int guest_shutdown(struct guest *g, uint64_t deadline, struct mc_error *err);
/* SIGKILL by pidfd, reaps, removes the sockets and the pid file. Fine on a dead one. */
void guest_kill(struct guest *g);
/* Closes what we hold and frees g; the process, if there is one, lives on: kill it before, or
 * leave a running VM behind. */
void guest_free(struct guest *g);
static inline void guest_detach(struct guest *g)
{
	guest_free(g);
}

/* Its memory: the blocks that are replicated (ramblocks.h), which pages of them it writes
 * (dirty.h), and its firmware (roms.h).  track: ram is that of guest_open_memory. */
int guest_open_memory(struct guest *g, struct ramblocks *ret, struct mc_error *err);
/* The memory files that it was launched with, of an adopted one: plan->n_ram descriptors, the
 * caller's.  With them the memory outlives it. */
int guest_bring_ram(
	struct guest *g, const struct cmdline_plan *plan, int *ret_fds, struct mc_error *err);
int guest_track(struct guest *g, const struct ramblocks *ram, enum dirty_backend want,
	struct dirty **ret, struct mc_error *err);
int guest_read_roms(struct guest *g, struct roms *ret, struct mc_error *err);
int guest_write_roms(struct guest *g, const struct roms *roms, struct mc_error *err);

/* Has its agent, which it offers on the socket, set its clock: see guest_agent_set_time. */
int guest_set_time(struct guest *g, const char *socket, int64_t tolerance,
	void (*done)(void *ctx, const struct guest_time *what), void *ctx, struct guest_agent **ret,
	struct mc_error *err);

/* Disks (mirror-job.c).  A disk is named by its block node, the id of its [disk]. */
int guest_disk_size(struct guest *g, const char *disk, uint64_t timeout_ns, uint64_t *ret,
	struct mc_error *err);
/* Has QEMU copy the disk, and then every write, to that export of the NBD server on the socket.
 * What a former mcd's mirror left behind is taken away first. */
int guest_mirror_begin(struct guest *g, const char *disk, const char *socket, uint64_t timeout_ns,
	struct mc_error *err);
struct guest_mirror {
	uint64_t done, total;
	bool ready;
};
/* -ENOENT: the job ended by itself, after an error. */
int guest_mirror_look(struct guest *g, const char *disk, uint64_t timeout_ns,
	struct guest_mirror *ret, struct mc_error *err);
/* That every disk's mirror is there and ready: a job that ended, for whatever reason, leaves its
 * connection open, and says nothing to the server that it still waits for. */
int guest_mirror_check(
	struct guest *g, const struct config_vm *vm, uint64_t timeout_ns, struct mc_error *err);
/* The NBD server must have closed its connections, or this waits for it in vain. */
int guest_mirror_end(struct guest *g, const char *disk, uint64_t timeout_ns, struct mc_error *err);
/* On the second session, also while the first one hangs: cuts the mirrors' connections. */
int guest_mirror_yank(
	struct guest *g, const struct config_vm *vm, uint64_t timeout_ns, struct mc_error *err);
/* Lets us read the disk over NBD while the guest runs, whatever its format. */
int guest_export_begin(struct guest *g, const char *disk, const char *socket, uint64_t timeout_ns,
	struct mc_error *err);
void guest_export_end(struct guest *g, const char *disk, uint64_t timeout_ns);
/* Flushes of the guest that were completed so far, of all disks, and writes where each is a promise
 * by itself (no write cache, or FUA): more of it than before means that the guest was told that
 * something is durable.  Counted from QEMU's start. */
int guest_disk_flushes(struct guest *g, uint64_t timeout_ns, uint64_t *ret, struct mc_error *err);
/* What a standby's QEMU has from its start, too (inventory.c). */
#define GUEST_DEVICE_MAX 63
#define GUEST_MEDIA_MAX  255
struct guest_inventory {
	uint64_t devices;  /* digest of their names and types */
	uint64_t media;    /* and of what is in the drives; 0: there are none */
	unsigned replaced; /* devices of its start that were taken out since this mcd knows it */
	char device[GUEST_DEVICE_MAX + 1]; /* the last of these */
	char words[GUEST_MEDIA_MAX + 1];   /* the media, for people */
};
int guest_inventory(
	struct guest *g, uint64_t timeout_ns, struct guest_inventory *ret, struct mc_error *err);
/* Whether they differ, and in what: a sentence without its end. */
bool guest_inventory_changed(const struct guest_inventory *then, const struct guest_inventory *now,
	char *what, size_t cap);

/* Asks QEMU whether it could save the guest, before it is ever made to.  -ENOTSUP, class
 * GuestUnsuitable: it could not, or nothing could go on from it; the message names the device. */
int guest_migratable(struct guest *g, uint64_t timeout_ns, struct mc_error *err);

/* Checks this QEMU has every command the product needs. */
int guest_require(struct guest *g, struct mc_error *err);
