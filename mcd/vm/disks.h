/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a VM's disks are on this host, and how far what is there can be trusted.  Mirroring them
 * from here is primary/disks.h, keeping them here for another host standby/disks.h.
 */
#pragma once
#include "diskmirror/replica.h"
#include "mcd/vm/vm.h"

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

/* For mcctl check, from any thread: what this host has of a disk, in a sentence; false: it could
 * neither be started from nor be a standby's. */
bool disks_check(const struct vm *vm, const struct config_vm *cfg, size_t disk, char *text,
	size_t text_cap, char *hint, size_t hint_cap);

/* The replica's own files of this VM: its state and its journal. */
struct disks_paths {
	char state[400], journal[400];
};
/* makes the directory */
int disks_paths(const struct vm *vm, struct disks_paths *ret, struct mc_error *err);
/* The replicas that the configuration names; returns how many. out: CONFIG_DISKS_MAX. */
size_t disks_list(const struct config_vm *cfg, struct replica_disk *out);
enum disk_durability disks_durability(const struct vm *vm);
