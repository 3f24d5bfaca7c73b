/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keep-alives between all hosts: one-way beats on connections of their own, sent and watched by
 * one SCHED_RR thread with locked memory, so that neither bulk data nor a busy host delays them.
 * Each host connects to every other and sends; it listens on what the others connected.
 * Byte layouts at the heads of beat.c (TCP) and keepalive-slot.c (RDMA).  Thread-safe.
 *
 * Between hosts that have RDMA for these addresses each beat is besides written to a few bytes of
 * the peer's memory, over a queue pair of its own; the peer looks there LOOKS times an interval.
 *
 * What "heard" means where there are two paths:
 *
 *  1. Once a beat came by RDMA only RDMA counts: the checkpoints go that way, and a path that is
 *     dead while TCP still works must be noticed, or the guest would wait for acknowledgements
 *     that cannot come.  The TCP beats go on, unheeded.
 *  2. Silence there makes the peer suspected like any silence, within interval x misses plus a
 *     quarter interval (timing.h reckons with a whole one).  It is what is decided on: a stopped
 *     process or a frozen host tells the queue pair nothing, and an error of the queue pair is no
 *     proof of death.
 *  3. With transport = auto the TCP beats count from then on, until one comes by RDMA again: so a
 *     host without working RDMA is not dead for ever.  But the suspicion lasts as long as the
 *     silence that caused it: only a beat that arrives a whole interval x misses later ends it.
 *     Shorter, a VM could miss that its replication has broken down.  With transport = rdma
 *     nothing but RDMA ends it.
 *  4. A peer's new process is heard by TCP until its first beat by RDMA.
 *  5. keepalive_age is the last sign of life on either path: it is asked to find out whether a
 *     host lives (for voters, and before a VM is started), not whether its replication works.
 *
 * A queue pair that fails is closed and made anew, after pauses that grow to 5 s; where this host
 * or the peer has no RDMA it is tried again every 10 s.
 */
#pragma once
#include "common/error.h"
#include "common/link.h"
#include "common/rdma/rdma.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct keepalive;

struct keepalive_peer {
	char name[LINK_NAME_MAX + 1];
	char address[64];
	uint16_t port;
};

struct keepalive_config {
	const char *self, *local_address;
	const struct link_key *key;
	uint64_t instance;
	uint64_t interval;                  /* ns */
	unsigned misses;                    /* this many in a row = suspected */
	enum rd_mode mode;                  /* of the transport; RD_TCP: no RDMA is looked for */
	const struct keepalive_peer *peers; /* without self */
	size_t n_peers;
	/* From a thread of their own: they may block, which delays other such calls and no beat.
	 * suspect: fell silent (last_heard), or was not heard within 2 s + the suspicion time of
	 * keepalive_new (0).  alive: heard for the first time, or again after suspect. */
	void (*suspect)(void *ctx, const char *peer, uint64_t last_heard);
	void (*alive)(void *ctx, const char *peer);
	void *ctx;
};

enum ka_path { KA_TCP, KA_RDMA, KA_PATHS };

struct keepalive_stats {
	bool up;             /* heard within the suspicion time */
	uint64_t last_heard; /* ns CLOCK_MONOTONIC, 0 = never */
	uint64_t instance;   /* of the peer's mcd (0: never connected); changes when it restarts */
	uint64_t jitter_p99, jitter_max; /* ns beyond the interval, last minute or so */
	uint64_t beats;
	enum ka_path path;  /* by which it is heard: what the figures above are of */
	bool sends_rdma;    /* our beats to it go by RDMA, too */
	char rdma_why[200]; /* why not; "" also where RDMA is not wanted */
};

int keepalive_new(const struct keepalive_config *cfg, struct keepalive **ret, struct mc_error *err);
/* No new keepalive_serve may begin; those that run are ended.  Takes up to a second,
 * RD_AGREE_TIME while RDMA to a peer is attempted. */
void keepalive_free(struct keepalive *k);
/* Serves one accepted LINK_KEEPALIVE connection until it ends; for a thread of its own. */
void keepalive_serve(struct keepalive *k, int fd, const struct link_peer *peer);
/* Age of the last beat of the peer, by any path, in ns, UINT64_MAX if never heard or unknown.
 * Lock-free. */
uint64_t keepalive_age(struct keepalive *k, const char *peer);
/* From just before the suspect call to just before the alive call; false if unknown. */
bool keepalive_suspected(struct keepalive *k, const char *peer);
/* -ENOENT if unknown. */
int keepalive_get_stats(struct keepalive *k, const char *peer, struct keepalive_stats *ret);
