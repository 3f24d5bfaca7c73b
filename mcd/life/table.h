/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The VMs of this host.  From any thread. */
#pragma once
#include "common/error.h"
#include "mcd/config/config.h"

#include <stdbool.h>
#include <stddef.h>

struct vm;
struct vm_env;
struct table;

int table_new(const struct vm_env *env, struct table **ret, struct mc_error *err);
/* Frees every VM, after taking it out of the list: nobody finds it any more.  NULL is fine. */
void table_stop(struct table *t);
void table_free(struct table *t); /* once nobody asks it any more; NULL is fine */

/* The VM of that name, made on first use if it has a configuration file. */
int table_find(struct table *t, const char *name, struct vm **ret, struct mc_error *err);
struct vm *table_known(struct table *t, const char *name); /* NULL if not made yet */
/* All that have a file; what is wrong with one is logged, and keeps no other from being made. */
int table_make_all(struct table *t, struct mc_error *err);

void table_ring_all(struct table *t, unsigned bit); /* WAKE_*; does not block */
size_t table_count(struct table *t);
/* fn for each that there is at the call.  It may take its time: nothing is locked meanwhile, but
 * table_stop waits for it. */
void table_each(struct table *t, void (*fn)(void *ctx, struct vm *vm), void *ctx);
