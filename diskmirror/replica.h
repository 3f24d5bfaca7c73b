/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The standby's side: writes of an epoch are held until it is committed, then applied to the
 * replica (raw files or block devices) by io_uring; what was not committed is dropped at a
 * takeover.
 *
 * Threads: one receives and stages; everything else happens in the VM's thread, which calls these
 * functions in the order of mcd/standby/epoch.c: wait, harden, (ACK), apply.
 */
#pragma once
#include "diskmirror/disklink.h"
#include "diskmirror/stream.h"
#include <stdbool.h>

struct replica;

enum disk_durability { DISK_DURABILITY_FLUSH, DISK_DURABILITY_COMMIT, DISK_DURABILITY_NONE };

struct replica_disk {
	char id[DISK_ID_MAX + 1];
	char path[256];
};

struct replica_config {
	/* replica-state.h: file that says how far the replica can be trusted */
	const char *state_path;
	const char *journal_path; /* journal.h */
	const char *spill_dir;    /* where what exceeds the budget is put, in an unlinked file */
	size_t n_disks;
	/* in the order of this host's configuration; matched by id */
	const struct replica_disk *disks;
	uint64_t budget; /* bytes of held writes in memory */
	enum disk_durability durability;
	uint64_t generation;       /* the session's, must be the HELLO's */
	const char *primary;       /* its name, for the state file; NULL: unknown */
	void (*broken)(void *ctx); /* once, from the receiving thread: the link or a disk failed */
	void *ctx;
};

struct replica_stats {
	uint64_t received_bytes, applied_bytes, held_bytes, held_peak, spilled_bytes;
	uint64_t epochs, hardened; /* applied; made durable before their ACK */
};

/* Takes over link (also on failure).  Receives HELLO; opens each disk (creates a missing regular
 * file at its full size; the size of an existing one must be equal, class ConfigError naming
 * both sizes and the file), marks the replica as being synchronised (durably: from here on
 * nobody may start the VM from it), answers HELLO_OK, sends the digest table in the background,
 * and starts to receive. */
int replica_open(const struct replica_config *c, struct disklink *link, uint64_t deadline,
	struct replica **ret, struct mc_error *err);
/* Drops what is held and not committed.  The replica keeps the state it was last marked with. */
void replica_close(struct replica *r);

/* Until END(n) was received and is exactly `want`.  -EBADMSG: it is not; -ETIMEDOUT; -EINTR when
 * wake_fd (or -1) is readable; other errors: the link or the disk failed.  An epoch that has come
 * whole is still returned after its link broke, but not after the disk failed or replica_cut. */
int replica_wait(struct replica *r, uint64_t n, const struct disk_epoch_sum *want,
	uint64_t deadline, int wake_fd, struct mc_error *err);
/* Before the ACK of n: as the durability demands, epoch n is in the journal and on stable
 * storage, and so is everything before it.  After it returned 0 a power failure loses nothing of
 * n.  On failure n is not committed; if only the journal failed the files are at n - 1, and a
 * takeover can go on from there. */
int replica_harden(struct replica *r, uint64_t n, struct mc_error *err);
/* After the ACK: epoch n into the files, whole.  An error here ends the session: the files
 * cannot be trusted to be at n until replica_take has applied it again, or replica_recover has gone
 * through the journal; the caller must not run the VM. */
int replica_apply(struct replica *r, uint64_t n, struct mc_error *err);
/* Drops everything that is not committed, and stops receiving: nothing is taken from the primary
 * any more. From any state; the link is shut down. Idempotent. */
void replica_cut(struct replica *r);
/* A takeover, before QEMU may write; cuts, if that was not done.  What is hardened and not applied
 * yet is applied.  After a failure it may be tried again; also after an earlier one of the disk:
 * it may be well again, and no other copy is there.  Refused (class WrongState) if no epoch was
 * ever applied. */
int replica_take(struct replica *r, struct mc_error *err);
/* After it, and before QEMU may write if that can be had: what was applied is made durable (unless
 * the durability is none), the journal cleared - replaying it later would undo what the VM writes
 * from now on -, and the state marked REPLICA_ACTIVE under that generation.  What fails may be done
 * later, by replica_claim. */
int replica_own(struct replica *r, uint64_t generation, struct mc_error *err);
/* Whether one of its disks failed in this session, so that the files may lack what was written to
 * them: 0, or the code of the first failure. */
int replica_disk_failed(struct replica *r, struct mc_error *err);
/* The primary said PROTECTED: the replica is whole, and consistent at every moment from here on
 * (durably marked; with durability none for this boot only).  Needs an applied epoch. */
int replica_trusted(struct replica *r, struct mc_error *err);
int replica_error(struct replica *r, struct mc_error *err);
void replica_get_stats(struct replica *r, struct replica_stats *ret);

/* Before anything opens the files: finishes from the journal what a crash interrupted.  Fine
 * without one. */
int replica_recover(const char *journal_path, const struct replica_disk *disks, size_t n_disks,
	struct mc_error *err);

/* replica_own without a struct replica: for an mcd that was restarted, and for starting the VM
 * on what a standby held.  The journal must have been applied, or replica_recover called. */
int replica_claim(const char *state_path, const char *journal_path,
	const struct replica_disk *disks, size_t n_disks, enum disk_durability durability,
	uint64_t generation, struct mc_error *err);
