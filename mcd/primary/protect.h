/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Life of a protected VM on its primary: checks, synchronisation, epochs, and what follows their end. */
#pragma once
#include "mcd/vm/vm.h"

/* Serves `mcctl protect` on an unprotected primary.  Returns when protection is over (or never came
 * about): the VM is unprotected, stopped, or this host's copy is gone (vm->pub.role tells).  Answers
 * the call once the VM is protected, or with the reason why not; then the VM is as it was. */
void protect_run(struct vm *vm, struct vm_call *call);

/* Holds, asks for {self, none} and releases on winning; on losing destroys this host's copy.  Asks as
 * long as it takes; the guest is paused meanwhile. */
void protect_alone(struct vm *vm, const char *why);
