/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The standby's side of `mcctl verify` (primary/verify.h): it compares what it is told with what
 * it has once that epoch is applied. */
#pragma once
#include "mcd/standby/session.h"

/* Keeps what is to be compared at the epoch that is being received. */
int verify_take(struct standby *s, const struct wire_header *h, struct mc_error *err);
/* After APPLY: compares, and answers. */
int verify_compare(struct standby *s, struct mc_error *err);
