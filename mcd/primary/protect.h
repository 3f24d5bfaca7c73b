/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Life of a protected VM on its primary: greeting, synchronisation, epochs, and what follows
 * their end. */
#pragma once
#include <stdint.h>

struct vm;
struct vm_call;

/* Serves `mcctl protect` on an unprotected primary.  Returns when the protection is over (or
 * never came about): the VM is unprotected, stopped, or this host's copy is gone.  Answers the
 * call once the VM is protected, or with the reason why not; then the VM is as it was.  Returns
 * when the protection was complete, 0: it never was. */
uint64_t protect_run(struct vm *vm, struct vm_call *call);
