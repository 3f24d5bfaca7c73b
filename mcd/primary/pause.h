/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
#include "mcd/primary/session.h"

/* PAUSE: stops the guest and drains its disk I/O.  Also before the epoch that needs it, whose
 * PAUSE then finds it stopped. */
int session_pause(struct session *s, struct mc_error *err);
