/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What corosync has told this host, and what follows from it: may it take part in votes?  Pure: no
 * clock, no I/O; cluster-corosync.c feeds it with callbacks, a table in the tests with histories.
 *
 * Quorum and CPG come over two connections that are not ordered against each other, each may be a
 * membership behind the other, and a host that stood still for some seconds never hears that it was
 * without quorum.  So nothing is read from the quorate flag alone: it counts for the ring (the
 * membership, by its id) that it came with, and "left" counts until both agree on a ring again.
 *
 * Nodes are bits, in the order of the node list.  Nodes that are not in it are nobody's voters and
 * count for nothing.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cluster_ring {
	uint32_t node;
	uint64_t seq; /* 0 = none yet */
};

struct cluster_view {
	bool managed;                              /* false: no cluster manager, nothing to ask */
	bool connected;                            /* quorum and CPG both answer */
	size_t n_nodes;                            /* of the node list */
	struct cluster_ring quorum, nodelist, cpg; /* of the last callback of each kind */
	bool quorate;
	uint32_t members; /* of CPG's ring */
	uint32_t agreed;  /* members when quorum and CPG agreed last; 0 = never since connected */
	uint32_t left;    /* who left since */
	bool stalled; /* we stood still for so long that the others may have gone on without us */
	struct cluster_ring stalled_in; /* CPG's ring at that time */
};

enum cluster_verdict {
	CLUSTER_OPEN,
	CLUSTER_GONE,    /* the cluster manager does not answer */
	CLUSTER_UNKNOWN, /* connected, but not both have said anything yet */
	CLUSTER_INQUORATE,
	CLUSTER_SUSPENDED, /* a new ring, and quorum has not spoken about it yet */
	CLUSTER_STALLED,
	CLUSTER_LEFT, /* more than half of the nodes have left, says CPG */
};

enum cluster_verdict cluster_verdict(const struct cluster_view *v);
/* Whether this host may ask for votes and grant them. */
bool cluster_gate(const struct cluster_view *v);
const char *cluster_verdict_text(enum cluster_verdict v);

/* What happened. */
void cluster_view_connect(struct cluster_view *v, size_t n_nodes);
void cluster_view_disconnect(struct cluster_view *v);
void cluster_view_quorum(struct cluster_view *v, struct cluster_ring ring, bool quorate);
void cluster_view_nodelist(struct cluster_view *v, struct cluster_ring ring);
void cluster_view_ring(struct cluster_view *v, struct cluster_ring ring, uint32_t members);
void cluster_view_left(struct cluster_view *v, uint32_t nodes);
void cluster_view_stall(struct cluster_view *v);
/* Nothing of the above for as long as the others need to notice that a node is gone.  False: quorum
 * and CPG do not agree, so it is not over; try again. */
bool cluster_view_calm(struct cluster_view *v);
