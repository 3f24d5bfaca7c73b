/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
#include "mcd/primary/session.h"

/*
 * Runs one epoch from its TICK to DONE.  0: epoch s->e.n was acknowledged and its output released.
 * Otherwise the session ends, as s->end says why; the guest may still be stopped by us.  Output of
 * the epoch was released only if it failed in DONE (END_OUTPUT_LOST).
 */
int epoch_run(struct session *s, struct mc_error *err);

/* The first epoch in two halves, because its RELEASE waits for the ownership vote (protect.c). */
int epoch_run_until_acked(struct session *s, struct mc_error *err);
int epoch_release(struct session *s, struct mc_error *err);
