/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The replica of the guest's memory, and the slabs that its epochs are received in. */
#pragma once
#include "mcd/standby/session.h"

/* Whether this host has the memory for it. */
int memory_check(const struct standby *s, struct mc_error *err);
int memory_map(struct standby *s, struct mc_error *err); /* s->replica; undone by standby_free */

/* The payload of that message, a slab of checked ranges; to be given back by memory_put.  A slab
 * is of the pool, or beyond its budget one on disk (an unlinked file in the state directory), so
 * that an epoch larger than max-buffer is still taken whole while memory stays bounded. */
int memory_receive(
	struct standby *s, const struct wire_header *h, struct slab **ret, struct mc_error *err);
void memory_put(struct standby *s, struct slab *x);
/* A slab_range_fn: puts a range into the replica. ctx: the struct standby. */
void memory_apply(void *ctx, uint32_t block, uint64_t off, const uint8_t *mem, uint64_t len);
/* An epoch is over: its figures. */
void memory_publish(struct standby *s, uint64_t apply_ns);
