/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
#include "mcd/primary/session.h"

struct vm_call;

/* Sends the firmware: once, it never changes.  Before any WIRE_SYNC_END, where the standby puts it
 * in its place. */
int sync_roms(struct session *s, struct mc_error *err);
/* Initial synchronisation while the guest runs; tells progress of it. */
int sync_rounds(struct session *s, struct vm_call *progress, struct mc_error *err);
