/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
#include "mcd/guest/guest.h"

struct vm;

/* Deals with what the guest did by itself; what is left for the caller: SHUTDOWN (it is off, QEMU
 * stays), GONE (QEMU ended), NONE. */
enum guest_event vm_guest_events(struct vm *vm);
