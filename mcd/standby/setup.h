/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a standby needs around the epochs: greeting, memory, the waiting QEMU, slabs. */
#pragma once
#include "mcd/standby/standby.h"

/* Takes over fd; receives HELLO, checks everything, makes replica and QEMU, answers HELLO_OK. */
int setup_standby(struct standby *s, int fd, const struct link_peer *peer, struct mc_error *err);
void setup_free(struct standby *s); /* the memory and the link; not the VM */
void setup_send_error(struct standby *s, const struct mc_error *why);

/* A slab of the pool; beyond the budget one on disk (an unlinked file in the state directory), so that
 * an epoch larger than max-buffer is still taken whole while memory stays bounded. */
int setup_get_slab(struct standby *s, struct slab **ret, struct mc_error *err);
void setup_put_slab(struct standby *s, struct slab *x);

/* A payload; gives up (-EHOSTDOWN) when the primary is suspected meanwhile. */
int setup_recv_payload(struct standby *s, void *buf, uint64_t deadline, struct mc_error *err);
void setup_zero(struct standby *s, uint32_t block, uint64_t off, uint64_t len);
void setup_publish(struct standby *s, uint64_t apply_ns);

/* The record of this session, or a later one, is what we act under: named_standby saw it. */
/* Gives the waiting QEMU its firmware, once it is all here. */
int setup_put_roms(struct standby *s, struct mc_error *err);
bool setup_named(const struct standby *s);

/* Serves what waits on the VM's bell: verbs, QEMU's end (restarted). True: look at the facts of
 * failover again (suspicion, or a newer record). */
bool setup_listen(struct standby *s);
