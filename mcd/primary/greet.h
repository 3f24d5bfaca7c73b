/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
#include "mcd/primary/session.h"

/* Before anything changes: connects, checks both sides, and has the standby get ready. */
int session_greet(struct session *s, struct mc_error *err);
/* Whether a vote could be won now. */
int session_check_majority(struct vm *vm, struct mc_error *err);
void session_free(struct session *s);
