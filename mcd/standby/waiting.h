/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The QEMU that waits on a standby for a takeover. */
#pragma once
#include "mcd/standby/session.h"

/* One for that VM, with its firmware (once that is here).  It is there whole, or not at all. */
int waiting_start(struct vm *vm, const struct roms *roms, struct mc_error *err);
int waiting_launch(struct standby *s, struct mc_error *err);
/* It ended: another takes its place; the memory is ours and stays. */
void waiting_relaunch(struct standby *s);
/* Gives it its firmware, once that is all here. */
int waiting_put_roms(struct standby *s, struct mc_error *err);
