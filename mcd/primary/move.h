/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Giving the VM to the standby. */
#pragma once
#include "mcd/primary/session.h"

struct vm_call;

/* Before the vote that makes the peer owner: it keeps its image so that its mcd may die at any
 * moment from here on. */
int move_offer(struct session *s, uint64_t timeout_ns, struct mc_error *err);
/* `mcctl failover`, a planned move: one last checkpoint that the guest does not run past, then
 * {peer, none}.  Answers the call.  0: our copy is gone; else the session has ended. */
int move_run(struct session *s, struct vm_call *call, struct mc_error *err);
