/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the backends keep up to date and callers read: the gate, and the others' VMs. */
#include "failover/cluster-private.h"

#include "common/clock.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool cluster_managed(const struct cluster *c)
{
	return c->ops != &cluster_static_ops;
}

/* --- the gate --------------------------------------------------------------------------------- */

enum cluster_verdict cluster_now(const struct cluster *c)
{
	enum cluster_verdict v = cluster_verdict(&c->view);
	if (v == CLUSTER_OPEN && c->view.managed && mc_now() - c->seen_at > c->stall_limit)
		v = CLUSTER_STALLED;
	return v;
}

bool cluster_quorate(struct cluster *c)
{
	pthread_mutex_lock(&c->lock);
	bool open = cluster_now(c) == CLUSTER_OPEN;
	pthread_mutex_unlock(&c->lock);
	return open;
}

void cluster_describe(struct cluster *c, char *ret, size_t size)
{
	if (!cluster_managed(c)) {
		snprintf(ret, size, "%s", c->ops->name);
		return;
	}
	pthread_mutex_lock(&c->lock);
	enum cluster_verdict v = cluster_now(c);
	const struct cluster_ring *ring = &c->view.cpg;
	if (v == CLUSTER_GONE || !ring->seq)
		snprintf(ret, size, "%s (%s)", c->ops->name, cluster_verdict_text(v));
	else
		snprintf(ret, size, "%s (%s, ring %x.%llx)", c->ops->name, cluster_verdict_text(v),
			ring->node, (unsigned long long)ring->seq);
	pthread_mutex_unlock(&c->lock);
}

void cluster_alarm(struct cluster *c, char *ret, size_t size)
{
	*ret = '\0';
	pthread_mutex_lock(&c->lock);
	enum cluster_verdict v = cluster_now(c);
	if (c->trouble[0])
		snprintf(ret, size, "%s", c->trouble);
	else if (v == CLUSTER_INQUORATE || v == CLUSTER_LEFT)
		snprintf(ret, size,
			"this host is outside the quorate part of the cluster (%s): it neither "
			"takes over nor votes until it is back; check the network to the other "
			"hosts",
			cluster_verdict_text(v));
	pthread_mutex_unlock(&c->lock);
}

/* --- announcements ---------------------------------------------------------------------------- */

int cluster_take_announcement(
	struct cluster *c, size_t host, uint32_t pid, const void *msg, size_t len)
{
	assert(host < CLUSTER_HOSTS_MAX);
	struct cluster_vm *vms = calloc(CLUSTER_VMS_MAX, sizeof *vms);
	if (!vms)
		return -ENOMEM;
	int n = cluster_announce_decode(msg, len, c->hosts[host].name, vms);
	if (n < 0) {
		free(vms);
		return n;
	}
	pthread_mutex_lock(&c->lock);
	struct cluster_announced *a = &c->announced[host];
	free(a->vms);
	*a = (struct cluster_announced){.pid = pid, .n = (size_t)n, .vms = vms};
	pthread_mutex_unlock(&c->lock);
	return 0;
}

void cluster_forget(struct cluster *c, size_t host, uint32_t pid)
{
	assert(host < CLUSTER_HOSTS_MAX);
	pthread_mutex_lock(&c->lock);
	struct cluster_announced *a = &c->announced[host];
	/* A restarted mcd may have spoken before the old one is reported gone. */
	if (!pid || pid == a->pid) {
		free(a->vms);
		*a = (struct cluster_announced){0};
	}
	pthread_mutex_unlock(&c->lock);
}

struct cluster_vm *cluster_vms(struct cluster *c, size_t *ret_n)
{
	size_t n = 0;
	pthread_mutex_lock(&c->lock);
	for (size_t i = 0; i < c->n_hosts; i++)
		n += c->announced[i].n;
	struct cluster_vm *all = n ? calloc(n, sizeof *all) : NULL;
	n = 0;
	for (size_t i = 0; all && i < c->n_hosts; i++) {
		const struct cluster_announced *a = &c->announced[i];
		if (a->n)
			memcpy(all + n, a->vms, a->n * sizeof *all);
		n += a->n;
	}
	pthread_mutex_unlock(&c->lock);
	*ret_n = all ? n : 0;
	return all;
}
