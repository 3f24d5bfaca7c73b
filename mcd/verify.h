/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `mcctl verify`: are memory and disks of both sides equal at a committed epoch?  The VM runs, and
 * its pauses are no longer than otherwise.
 *
 * A range is digested while the guest runs, in the TICK of epoch n.  If the SCAN of epoch n finds
 * none of its pages written since, and the mirror none of its blocks, then that is what it is at
 * epoch n; the digest goes along with the epoch, and the standby compares it with what it has after
 * APPLY(n).  A range that was written is tried again later; one that is written all the time is
 * digested in a pause at last, a few of them at a time.
 *
 * Everything belongs to the VM's thread.
 */
#pragma once
#include "mcd/primary/epoch.h"
#include "mcd/standby/standby.h"

/* Serves the verb: answers call at the end of the comparison, or of the protection. */
void verify_begin(struct epoch *e, struct vm_call *call);
void verify_end(struct epoch *e, const char *why); /* nothing if there is none */

void verify_look(struct epoch *e);   /* TICK: digests what is next */
void verify_settle(struct epoch *e); /* SCAN was: what still holds */
int verify_send(struct epoch *e, struct mc_error *err);
/* WIRE_VERIFIED came. */
int verify_answer(struct epoch *e, const struct wire_header *h, struct mc_error *err);

/* On the standby: keeps what is to be compared at that epoch; compares, and answers. */
int verify_take(struct standby *s, const struct wire_header *h, struct mc_error *err);
int verify_compare(struct standby *s, struct mc_error *err);
