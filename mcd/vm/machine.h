/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What this host needs for its copy of a VM: configuration, memory, network, QEMU.  For the VM's
 * own thread. */
#pragma once
#include "common/error.h"
#include "mcd/config/config.h"
#include "mcd/guest/dirty/dirty.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vm;

/* Loads the VM's configuration and makes memfds, taps and plan, closed; undone by vm_teardown. */
int vm_prepare(struct vm *vm, struct mc_error *err);
/* The configuration and the plan only. */
int vm_configure(struct vm *vm, struct mc_error *err);
/* taps: of a QEMU that runs already, one per NIC; NULL: new ones.  Sets the knobs to the
 * configured ones. */
int vm_open_network(struct vm *vm, const int *taps, struct mc_error *err);
/* Asks QEMU whether it could be saved, and publishes why not. */
void vm_note_unsaved(struct vm *vm);
int vm_launch(struct vm *vm, bool incoming, uint64_t timeout_ns, struct mc_error *err);
/* Ends the QEMU that is there, if one is, and forgets it; memory and network stay. */
void vm_end_guest(struct vm *vm);
void vm_watch_guest(struct vm *vm, bool on); /* QEMU's pidfd in vm->wake */
/* The guest, if there is one, goes on without this mcd: its network stays as netbuf_leave says,
 * and so do the notes about it.  The rest is forgotten. */
void vm_leave_guest(struct vm *vm);
/* Drops held output, kills QEMU, forgets memory: this host's copy is gone. */
void vm_teardown(struct vm *vm);

/* Resumes a guest that we stopped; if QEMU does not answer, an alarm, and the unprotected VM's loop
 * tries again. */
void vm_resume(struct vm *vm);
/* Opens the network of a VM that this host owns alone (vm->shut_in); the same if that fails. */
void vm_open(struct vm *vm);

/* The tracking of writes that is configured. */
enum dirty_backend vm_dirty_wanted(const struct config *cfg);

void vm_run_dir(const struct vm *vm, char *buf, size_t cap); /* RUN_DIR/NAME */
