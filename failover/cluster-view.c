/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "failover/cluster-view.h"

static bool same(const struct cluster_ring *a, const struct cluster_ring *b)
{
	return a->seq == b->seq && a->node == b->node;
}

static bool agree(const struct cluster_view *v)
{
	return v->quorum.seq && same(&v->quorum, &v->cpg) &&
	       (!v->nodelist.seq || same(&v->quorum, &v->nodelist));
}

enum cluster_verdict cluster_verdict(const struct cluster_view *v)
{
	if (!v->managed)
		return CLUSTER_OPEN;
	if (!v->connected)
		return CLUSTER_GONE;
	if (!v->quorum.seq || !v->agreed)
		return CLUSTER_UNKNOWN;
	if (!v->quorate)
		return CLUSTER_INQUORATE;
	/* With a quorum device this lasts for seconds in which both halves were last told that they
	 * are quorate. */
	if (v->nodelist.seq && !same(&v->nodelist, &v->quorum))
		return CLUSTER_SUSPENDED;
	if (v->stalled)
		return CLUSTER_STALLED;
	/* Where both agree quorum's word is about this very ring, and knows of votes, two-node mode
	 * and devices, which counting nodes does not. */
	if (agree(v) && !v->left)
		return CLUSTER_OPEN;
	uint32_t present = v->agreed & v->members & ~v->left;
	return 2 * (size_t)__builtin_popcount(present) < v->n_nodes ? CLUSTER_LEFT : CLUSTER_OPEN;
}

bool cluster_gate(const struct cluster_view *v)
{
	return cluster_verdict(v) == CLUSTER_OPEN;
}

const char *cluster_verdict_text(enum cluster_verdict v)
{
	switch (v) {
	case CLUSTER_OPEN:
		return "quorate";
	case CLUSTER_GONE:
		return "not answering";
	case CLUSTER_UNKNOWN:
		return "quorum not known yet";
	case CLUSTER_INQUORATE:
		return "not quorate";
	case CLUSTER_SUSPENDED:
		return "quorum of the new ring not known yet";
	case CLUSTER_STALLED:
		return "quorum to be confirmed after a standstill";
	case CLUSTER_LEFT:
		return "more than half of the nodes have left";
	}
	return "?";
}

/* After every callback: once both are on one ring, what was said about the way there is history. */
static void settle(struct cluster_view *v)
{
	if (!agree(v))
		return;
	v->agreed = v->members;
	v->left = 0;
	/* The ring from before the standstill proves nothing: it may be about to be left. */
	if (v->stalled && !same(&v->cpg, &v->stalled_in))
		v->stalled = false;
}

void cluster_view_connect(struct cluster_view *v, size_t n_nodes)
{
	*v = (struct cluster_view){.managed = true, .connected = true, .n_nodes = n_nodes};
}

void cluster_view_disconnect(struct cluster_view *v)
{
	v->connected = false;
}

void cluster_view_quorum(struct cluster_view *v, struct cluster_ring ring, bool quorate)
{
	v->quorum = ring;
	v->quorate = quorate;
	settle(v);
}

void cluster_view_nodelist(struct cluster_view *v, struct cluster_ring ring)
{
	v->nodelist = ring;
	settle(v);
}

void cluster_view_ring(struct cluster_view *v, struct cluster_ring ring, uint32_t members)
{
	v->cpg = ring;
	v->members = members;
	settle(v);
}

/* Comes before CPG's word about the ring in which they are gone or back: not settled here. */
void cluster_view_left(struct cluster_view *v, uint32_t nodes)
{
	v->left |= nodes;
}

void cluster_view_stall(struct cluster_view *v)
{
	v->stalled = true;
	v->stalled_in = v->cpg;
}

bool cluster_view_calm(struct cluster_view *v)
{
	if (!agree(v))
		return false;
	v->stalled = false;
	v->left = 0;
	return true;
}
