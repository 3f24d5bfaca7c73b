/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
#include "mcd/primary/session.h"

/* Copies what is in s->list into slabs; sends early when the budget is reached. */
int capture_copy(struct session *s, struct mc_error *err);
/* Seals and posts s->slabs. */
int capture_post(struct session *s, uint16_t type, struct mc_error *err);
void capture_reset(struct session *s); /* gives all slabs back */
