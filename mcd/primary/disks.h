/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A VM's disks, mirrored from here. */
#pragma once
#include "mcd/primary/session.h"

struct vm_call;

/* The connection, between HELLO and HELLO_OK: the standby opens its replica before its QEMU
 * does. */
int disks_connect(struct session *s, struct mc_error *err);
/* Has QEMU copy every disk; returns when all are mirrored (READY).  Tells progress of it. */
int disks_sync(struct session *s, struct vm_call *progress, struct mc_error *err);
/* The end of TICK: what the guest has written goes to this host's disk before it is stopped. */
void disks_flush(struct session *s);
/* INSPECT: what was plugged, whether the guest flushed; ends the epoch on the disk stream. */
int disks_inspect(struct session *s, struct mc_error *err);
void disks_publish(struct session *s); /* DONE: the figures */
/* The mirror ended, or was never there: nothing of it is left in QEMU if that answers.  in_order:
 * it works, and QEMU may take its leave before we close. */
void disks_drop(struct session *s, bool in_order);
