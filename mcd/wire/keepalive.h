/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keep-alives between all hosts: one-way beats on connections of their own, sent and watched by
 * one SCHED_RR thread with locked memory, so that neither bulk data nor a busy host delays them.
 * Each host connects to every other and sends; it listens on what the others connected.
 * Byte layout at the head of keepalive.c.  Thread-safe.
 */
#pragma once
#include "common/error.h"
#include "common/link.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct keepalive;

struct keepalive_peer { char name[LINK_NAME_MAX + 1]; char address[64]; uint16_t port; };

struct keepalive_config {
	const char *self, *local_address;
	const struct link_key *key;
	uint64_t instance;
	uint64_t interval; /* ns */
	unsigned misses;   /* this many in a row = suspected */
	const struct keepalive_peer *peers; /* without self */
	size_t n_peers;
	/* From the keep-alive thread; must not block.  suspect: fell silent (last_heard), or was not
	 * heard within 2 s + the suspicion time of keepalive_new (0).  alive: heard for the first
	 * time, or again after suspect. */
	void (*suspect)(void *ctx, const char *peer, uint64_t last_heard);
	void (*alive)(void *ctx, const char *peer);
	void *ctx;
};

struct keepalive_stats {
	bool up;              /* heard within the suspicion time */
	uint64_t last_heard;  /* ns CLOCK_MONOTONIC, 0 = never */
	uint64_t instance;    /* of the peer's mcd (0: never connected); changes when it restarts */
	uint64_t jitter_p99, jitter_max; /* ns beyond the interval, last minute or so */
	uint64_t beats;
};

int keepalive_new(const struct keepalive_config *cfg, struct keepalive **ret, struct mc_error *err);
/* No new keepalive_serve may begin; those that run are ended.  Takes up to a second. */
void keepalive_free(struct keepalive *k);
/* Serves one accepted LINK_KEEPALIVE connection until it ends (blocking; the connection's thread). */
void keepalive_serve(struct keepalive *k, int fd, const struct link_peer *peer);
/* Age of the last beat of the peer in ns, UINT64_MAX if never heard or unknown. Lock-free. */
uint64_t keepalive_age(struct keepalive *k, const char *peer);
/* From just before the suspect call to just before the alive call; false if unknown. */
bool keepalive_suspected(struct keepalive *k, const char *peer);
/* -ENOENT if unknown. */
int keepalive_get_stats(struct keepalive *k, const char *peer, struct keepalive_stats *ret);
