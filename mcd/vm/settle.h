/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a takeover left for later, because the guest could run without it.  For the VM's thread. */
#pragma once
#include <stdbool.h>

struct vm;

/* Tries to do it; an alarm says what could not be done and why, until it is.  Now and then. */
void vm_settle(struct vm *vm);
