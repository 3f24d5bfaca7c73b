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
#include "mcd/primary/session.h"

struct vm_call;

/* Serves the verb: answers call at the end of the comparison, or of the protection. */
void verify_begin(struct session *s, struct vm_call *call);
void verify_end(struct session *s, const char *why); /* nothing if there is none */

void verify_look(struct session *s); /* TICK: digests what is next */
void verify_keep(struct session *s); /* SCAN was: what still holds */
int verify_send(struct session *s, struct mc_error *err);
/* WIRE_VERIFIED came. */
int verify_answer(struct session *s, const struct wire_header *h, struct mc_error *err);
