/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
#include "mcd/standby/session.h"

/* After {self, none} was won.  0: the VM runs here. */
int takeover_run(struct standby *s, struct mc_error *err);
/* Loads the device state into the waiting QEMU, with which the guest goes on from where it was:
 * running, or stopped for the same reason. */
int takeover_activate(struct vm *vm, const uint8_t *devices, size_t len, enum wire_guest state,
	uint64_t *ret_loaded, struct mc_error *err);
/* Puts the committed device state where a later mcd can finish the takeover by that generation. */
void takeover_keep(struct standby *s, uint64_t generation);
