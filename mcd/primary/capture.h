/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
#include "mcd/primary/session.h"

/* Appends guest memory to a slab, as slab_append does; *ret_took: how much.  -EFAULT: it cannot be
 * read, whatever QEMU did to it. */
int capture_append(struct session *s, struct slab *x, uint32_t block, uint64_t off, uint64_t len,
	size_t *ret_took, struct mc_error *err);
/* Copies what is in s->list into slabs; sends early when the budget is reached. */
int capture_copy(struct session *s, struct mc_error *err);
/* Seals and posts s->slabs. */
int capture_post(struct session *s, uint16_t type, struct mc_error *err);
void capture_reset(struct session *s); /* gives all slabs back */
