/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The cluster around us: who the hosts (= voters) are, whether we are in its quorate part, and
 * which VMs the others have.
 *
 *   static     the hosts of mcd.conf; no quorum but that of the voters themselves; nobody announces
 *   corosync   hosts from corosync's node list (libcmap), quorum from libquorum and libcpg, VMs
 *              announced to all members over libcpg
 *   auto       corosync if it answers and its node list names this host, else static
 *
 * Safety never rests on this: a majority of the voters decides (vote.h).  The gate makes attempts
 * rarer that could not succeed.  Fast detection is the keep-alives' business, not corosync's.
 *
 * Thread-safe.  Nothing here blocks on corosync but cluster_open, which is bounded.
 */
#pragma once
#include "common/error.h"
#include "common/link.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CLUSTER_HOSTS_MAX 16
#define CLUSTER_VMS_MAX   64 /* announced by one host */

struct cluster_host {
	char name[LINK_NAME_MAX + 1];
	char address[64]; /* numeric; "" in an override: as the node list says */
	uint16_t port;    /* 0 in an override: cluster_config.port */
};

/* A VM as its host announces it.  Text is printable ASCII; longer text is cut. */
struct cluster_vm {
	char host[LINK_NAME_MAX + 1]; /* ignored when announcing */
	char name[LINK_NAME_MAX + 1];
	char peer[LINK_NAME_MAX + 1];
	char role[16], state[24];
	char alarm[304];
	uint64_t generation;
};

struct cluster_config {
	const char *mode; /* "static", "corosync" or "auto" */
	const char *self; /* our name; "" = what corosync calls us (not possible with static) */
	uint16_t port;    /* of hosts that say nothing else */
	const struct cluster_host *hosts; /* static: all of them; corosync: overrides by name */
	size_t n_hosts;
	/* All are called by a thread of the cluster's, between cluster_start and cluster_shutdown.
	 */
	/* The gate opened or closed, or begins closed; `why` is cluster_describe's text. */
	void (*gate)(void *ctx, bool open, const char *why);
	/* Fills in the VMs of this host, at most `max`; returns how many. */
	size_t (*vms)(void *ctx, struct cluster_vm *ret, size_t max);
	void *ctx;
};

struct cluster;
/* Finds out which backend it is and who the hosts are; they stay the same for the life of *ret. */
int cluster_open(const struct cluster_config *cfg, struct cluster **ret, struct mc_error *err);
/* Lets the callbacks begin. */
void cluster_start(struct cluster *c);
/* No callback runs after this; the gate of a managed cluster is closed from here on. */
void cluster_shutdown(struct cluster *c);
void cluster_close(struct cluster *c); /* shuts down and frees; NULL is fine */

const struct cluster_host *cluster_hosts(const struct cluster *c, size_t *ret_n);
const char *cluster_self(const struct cluster *c);
bool cluster_managed(const struct cluster *c);

/* May this host ask for votes and grant them?  Always true without a cluster manager. */
bool cluster_quorate(struct cluster *c);
/* For people: "static", "corosync (quorate, ring 1.8)", "corosync (not answering: ...)". */
void cluster_describe(struct cluster *c, char *ret, size_t size);
/* What is wrong, as a sentence that says what to do; "" if nothing is. */
void cluster_alarm(struct cluster *c, char *ret, size_t size);

/* The VMs of this host have changed: the others will be told soon.  Never blocks; NULL is fine. */
void cluster_poke(struct cluster *c);
/* The VMs that the other hosts announced; malloc'd, NULL if none. */
struct cluster_vm *cluster_vms(struct cluster *c, size_t *ret_n);
