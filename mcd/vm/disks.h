/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VM's disks: where they are on this host (disks.c), mirrored from here (disks-primary.c), or
 * kept here for another host (disks-standby.c).  Everything belongs to the VM's thread.
 */
#pragma once
#include "mcd/primary/epoch.h"
#include "mcd/standby/standby.h"

/* --- on this host ------------------------------------------------------------------------- */

/* Which file QEMU is to open for each of vm->cfg's disks: the replica, if this host has or had one
 * (always if `incoming`), else the configured image.  out: vm->cfg->n_disks, pointing into vm->cfg.
 */
int disks_locate(struct vm *vm, bool incoming, struct cmdline_disk *out, struct mc_error *err);
/* Of a VM's max-buffer a quarter is for disk writes, if it has disks, and the rest for memory. */
static inline uint64_t disks_share(const struct vm *vm, uint64_t max_buffer)
{
	return vm->cfg->n_disks ? max_buffer / 4 : 0;
}

/* Whether this host's copy is one to start from.  known: the record says that the VM's newest disks
 * are here; else it takes `force` to start from what a standby held. */
int disks_may_start(struct vm *vm, bool known, bool force, struct mc_error *err);
/* This host's copy is the one from now on, under that generation: the journal finished or cleared,
 * the files on stable storage, the state marked.  Before QEMU writes to them, after the vote was
 * won. applied: by this mcd, the last epoch whole; else a journal may have to be finished. */
int disks_claim(struct vm *vm, uint64_t generation, bool applied, struct mc_error *err);

/* For mcctl check, from any thread: what this host has of a disk, in a sentence; false: it could neither be
 * started from nor be a standby's. */
bool disks_check(const struct vm *vm, const struct config_vm *cfg, size_t disk, char *text, size_t text_cap,
	char *hint, size_t hint_cap);

/* --- on the primary ----------------------------------------------------------------------- */

/* The connection, between HELLO and HELLO_OK: the standby opens its replica before its QEMU does.
 */
int disks_connect(struct epoch *e, struct mc_error *err);
/* Has QEMU copy every disk; returns when all are mirrored (READY). */
int disks_sync(struct epoch *e, struct vm_call *call, struct mc_error *err);
/* The end of TICK: what the guest has written goes to this host's disk before it is stopped. */
void disks_settle(struct epoch *e);
/* INSPECT: what was plugged, whether the guest flushed; ends the epoch on the disk stream. */
int disks_inspect(struct epoch *e, struct mc_error *err);
/* The mirror ended, or was never there: nothing of it is left in QEMU if that answers.  in_order: it works, and
 * QEMU may take its leave before we close. */
void disks_drop(struct epoch *e, bool in_order);

/* --- on the standby ----------------------------------------------------------------------- */

/* Waits for the primary's disk connection and opens the replica. Nothing for a VM without disks. */
int disks_receive(struct standby *s, struct mc_error *err);
/* VERIFY: the disk writes of the epoch that c ends are here, and as hard as the durability says. */
int disks_verify(
	struct standby *s, uint64_t epoch, const struct wire_commit *c, struct mc_error *err);
