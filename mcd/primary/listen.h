/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The VM's bell, heard by a session. */
#pragma once
#include "mcd/primary/session.h"
#include "mcd/vm/mailbox.h"

enum listen_mode {
	/* memory or disks are copied: verbs are served at once, stop and unprotect end it */
	LISTEN_SYNC,
	/* epochs run: verbs make the running one end early, and are served between two */
	LISTEN_EPOCH,
};

/* Takes what is pending.  0: go on.  Else the session ends, for the reason in s->end. */
int session_listen(struct session *s, enum listen_mode mode, struct mc_error *err);

/* Verbs between two epochs.  True: *ret_call ends the protection (stop, unprotect, failover). */
bool session_serve(struct session *s, struct vm_call **ret_call);
