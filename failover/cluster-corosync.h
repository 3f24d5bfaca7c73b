/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The parts of the corosync backend: cluster-corosync.c (its thread and life) and
 * cluster-corosync-link.c (connections and callbacks).  All calls of corosync's libraries are the
 * thread's. */
#pragma once
#include "failover/cluster-nodelist.h"
#include "failover/cluster-private.h"
#include <corosync/cpg.h>
#include <corosync/quorum.h>

struct corosync {
	struct cluster *c;
	pthread_t thread;
	int bell;
	pthread_cond_t cond;              /* with c->lock: tried, ended */
	bool tried, quit, started, ended; /* under c->lock */
	int open_result;                  /* valid once tried */
	struct mc_error open_error;

	/* the thread's own */
	struct cluster_nodelist list;
	cmap_handle_t cmap;
	quorum_handle_t quorum;
	cpg_handle_t cpg;
	bool has_cmap, has_quorum, has_cpg;
	bool broken;          /* a callback or dispatch found the connection dead */
	uint64_t detect;      /* how long the others need at most to notice that a node is gone */
	uint64_t calm_at;     /* 0 = nothing to wait for */
	uint64_t announce_at; /* 0 = nothing to announce */
	uint64_t retry_at;
	bool told, told_open; /* what cfg.gate was told last */
};

void corosync_disconnect(struct corosync *s);
/* One try, if it is time for one; says in c->trouble what is wrong. */
void corosync_try_connect(struct corosync *s);
/* The first contact, which cluster_open waits for: only here the hosts are set. */
int corosync_first_contact(struct corosync *s, struct mc_error *err);
/* Runs the callbacks that are due; disconnects if corosync is gone. */
void corosync_dispatch(struct corosync *s);
/* Tells the others of our VMs, if it is time to. */
void corosync_announce(struct corosync *s);
/* Says in c->trouble whether the node list still is that of the voters. */
void corosync_compare_nodelist(struct corosync *s);
