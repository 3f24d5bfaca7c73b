/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How a VM's life on this host goes on or ends; for protect.c, standby.c and takeover.c. */
#pragma once
#include "mcd/guest/dirty/dirty.h"
#include "mcd/vm/vm.h"

/* This host's copy is over: held output dropped, QEMU killed, memory forgotten, role none. */
void vm_life_gone(struct vm *vm, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The VM has ended in order: as vm_life_gone, and its record becomes {none, none}. */
void vm_life_stopped(struct vm *vm, const char *why);
/* QEMU of an unprotected VM ended: powered off, or crashed (state failed). */
void vm_life_guest_ended(struct vm *vm, enum guest_event ev);
/* A protected guest powered off, and all it said is out: asks for {none} as long as it takes, so that
 * the standby lets go before our copy does, and stops. vm-guest.c */
void vm_life_powered_off(struct vm *vm);
/* Deals with what the guest did by itself; what is left for the caller: SHUTDOWN (it is off, QEMU
 * stays), GONE (QEMU ended), NONE. vm-guest.c */
enum guest_event vm_guest_events(struct vm *vm);
/* `mcctl takeover` where no majority answers: with force, the operator's word replaces it (vm_force)
 * and this host is sole owner (true); without, the answer explains what force risks.
 * other: the host that may still have the VM. */
bool vm_life_takeover(struct vm *vm, struct vm_call *c, const char *other);
/* Takes over what a former mcd left running; returns at once if there is nothing. vm-adopt.c */
void vm_adopt(struct vm *vm);
void vm_run_dir(const struct vm *vm, char *buf, size_t cap); /* RUN_DIR/NAME */
void vm_machine_save(const struct vm *vm); /* for the vm_adopt of a later mcd */
void vm_peer_save(const struct vm *vm);    /* the same for vm->want_peer */
/* Puts a call back in front, for whoever serves calls next. */
void vm_life_keep_call(struct vm *vm, struct vm_call *c);
/* Resumes a guest that we stopped; if QEMU does not answer, an alarm, and vm_run_unprotected tries again. */
void vm_life_resume(struct vm *vm);
/* Opens the network of a VM that this host owns alone (vm->shut_in); the same if that fails. */
void vm_life_open(struct vm *vm);
/* Has the guest's agent, if there is one, set the guest's clock; returns at once.  For a guest that runs,
 * after it was away.  Tells the log and subscribers (GUEST_TIME) what came of it. vm-time.c */
void vm_time_set(struct vm *vm);
/* In each epoch: the same now and then, if the clock is late by much. */
void vm_time_keep(struct vm *vm);
void vm_life_reset_figures(struct vm *vm);
enum dirty_backend vm_dirty_backend(const struct vm *vm);
