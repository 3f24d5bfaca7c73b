/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How a VM's life on this host ends.  For the VM's own thread. */
#pragma once
#include "mcd/guest/guest.h"

struct vm;

/* This host's copy is over: held output dropped, QEMU killed, memory forgotten, role none. */
void vm_gone(struct vm *vm, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The VM has ended in order: as vm_gone, and its record becomes {none, none}, unless it has disks:
 * then it stays this host's, which has the newest. */
void vm_stopped(struct vm *vm, const char *why);
/* Best effort: an owner that does not run it may start it again under its own record. */
void vm_give_up_record(struct vm *vm);
/* QEMU of an unprotected VM ended: powered off (SHUTDOWN), or crashed (state failed). */
void vm_guest_ended(struct vm *vm, enum guest_event ev);
