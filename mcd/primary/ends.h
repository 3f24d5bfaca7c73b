/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What follows the end of a session.  failover/decide.c says what, from the facts; this does it. */
#pragma once
#include "mcd/primary/session.h"

struct vm_call;

/* The epochs ended as s->end and err say. */
void ends_session(struct session *s, struct mc_error *err);
/* A verb ended them: stop, unprotect or failover; answers it. */
void ends_by_call(struct session *s, struct vm_call *call);
/* mcd was restarted and found the VM running, closed: whose is it?  Without a session. */
void ends_restart(struct vm *vm);
/* A breach of the protocol is counted and said aloud: it is no network's fault. */
void ends_report_breach(const struct session *s, const struct mc_error *why);
