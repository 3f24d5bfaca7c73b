/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When the stream ends, or the facts have changed.  failover/decide.c says what follows, from the
 * facts; this does it. */
#pragma once
#include "mcd/standby/session.h"

struct takeover_state;

/* The stream is over, as why says: closes it. */
void ends_link(struct standby *s, const struct mc_error *why);
/* Decides until the stream may go on (true), or the standby's life is over (false). why: a
 * sentence. */
bool ends_look(struct standby *s, const char *why);
/* A breach of the protocol is counted and said aloud: it is no network's fault. */
void ends_breach(struct standby *s, const struct mc_error *why);

/* A waiting QEMU was found: the former mcd was a standby.  Finishes the takeover that it had
 * begun, if the voters decided it for this host; else its QEMU ends. */
void ends_restart_standby(struct vm *vm);
