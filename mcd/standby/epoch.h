/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
#include "mcd/standby/session.h"

int epoch_stage_slab(struct standby *s, const struct wire_header *h, struct mc_error *err);
int epoch_stage_devices(struct standby *s, const struct wire_header *h, struct mc_error *err);
/* VERIFY to APPLY.  On failure nothing of the epoch is committed, or all of it is and the error
 * is one that came after. */
int epoch_commit(struct standby *s, const struct wire_header *h, struct mc_error *err);
/* Forgets what is staged of an epoch that will not be whole. */
void epoch_drop_staged(struct standby *s);
