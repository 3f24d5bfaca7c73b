/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
#include "common/error.h"

struct vm;
struct vm_clock; /* who sets the guest's clock; made and freed with the VM */

int vm_clock_new(struct vm *vm, struct vm_clock **ret, struct mc_error *err);
void vm_clock_free(struct vm_clock *c); /* NULL is fine */
/* The guest is no more: nobody is asked any longer. */
void vm_clock_forget(struct vm_clock *c);
/* Has the guest's agent, if there is one, set the guest's clock; returns at once.  For a guest
 * that runs, after it was away.  Tells the log and subscribers (GUEST_TIME) what came of it. */
void vm_clock_set(struct vm *vm);
/* In each epoch: the same now and then, if the clock is late by much. */
void vm_clock_keep(struct vm *vm);
