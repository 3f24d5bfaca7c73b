/* SPDX-License-Identifier: GPL-2.0-or-later */
/* corosync's node list and time-outs, from libcmap; only cluster-corosync.c uses this. */
#pragma once
#include "failover/cluster.h"
#include <corosync/cmap.h>

struct cluster_node {
	uint32_t id;
	char name[LINK_NAME_MAX + 1];
	char address[256]; /* ring0_addr as it is written: may be a name */
};

struct cluster_nodelist {
	size_t n, self; /* in the order of the list */
	struct cluster_node nodes[CLUSTER_HOSTS_MAX];
};

/* -ENOENT: there is no node list, or it does not say which node this is. */
int cluster_nodelist_read(cmap_handle_t cmap, struct cluster_nodelist *ret, struct mc_error *err);
bool cluster_nodelist_equal(const struct cluster_nodelist *a, const struct cluster_nodelist *b);

/* The hosts that follow from it and the overrides of mcd.conf. */
int cluster_nodelist_hosts(const struct cluster_nodelist *l, const struct cluster_host *overrides,
	size_t n_overrides, uint16_t port, struct cluster_host ret[CLUSTER_HOSTS_MAX],
	struct mc_error *err);

/* Effective token and consensus time-outs in ns; corosync's defaults where it does not say. */
void cluster_totem_times(cmap_handle_t cmap, uint64_t *ret_token, uint64_t *ret_consensus);
