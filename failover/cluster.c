/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What all backends share: the choice between them, the gate as callers see it, the others' VMs. */
#include "failover/cluster-private.h"

#include "common/clock.h"
#include "common/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef HAVE_COROSYNC
const struct cluster_ops *const cluster_corosync_ops = NULL;
#endif

static void destroy(struct cluster *c)
{
	for (size_t i = 0; i < CLUSTER_HOSTS_MAX; i++)
		free(c->announced[i].vms);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

int cluster_open_ops(const struct cluster_config *cfg, const struct cluster_ops *ops,
	struct cluster **ret, struct mc_error *err)
{
	if (cfg->n_hosts > CLUSTER_HOSTS_MAX)
		return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
			"%zu hosts are configured, %d are possible", cfg->n_hosts,
			CLUSTER_HOSTS_MAX);
	struct cluster *c = calloc(1, sizeof *c);
	if (!c)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "out of memory");
	c->cfg = *cfg;
	c->ops = ops;
	c->n_overrides = cfg->n_hosts;
	for (size_t i = 0; i < cfg->n_hosts; i++)
		c->overrides[i] = cfg->hosts[i];
	snprintf(c->wanted_self, sizeof c->wanted_self, "%s", cfg->self);
	pthread_mutex_init(&c->lock, NULL);
	int r = ops->open(c, err);
	if (r < 0) {
		if (!c->abandoned)
			destroy(c);
		return r;
	}
	*ret = c;
	return 0;
}

int cluster_open(const struct cluster_config *cfg, struct cluster **ret, struct mc_error *err)
{
	bool automatic = !strcmp(cfg->mode, "auto"), wanted = !strcmp(cfg->mode, "corosync");
	if (wanted && !cluster_corosync_ops)
		return mc_error_set(err, -ENOTSUP, MC_ECLASS_CONFIG,
			"cluster = corosync, but this mcd was built without corosync's libraries: "
			"write "
			"cluster = static, or build it with libcpg, libquorum and libcmap");
	if (wanted)
		return cluster_open_ops(cfg, cluster_corosync_ops, ret, err);
	if (automatic && cluster_corosync_ops) {
		struct mc_error why = MC_ERROR_INIT;
		if (cluster_open_ops(cfg, cluster_corosync_ops, ret, &why) == 0)
			return 0;
		log_info("corosync is not used: %s", why.msg);
	}
	return cluster_open_ops(cfg, &cluster_static_ops, ret, err);
}

void cluster_start(struct cluster *c)
{
	c->ops->start(c);
}

void cluster_shutdown(struct cluster *c)
{
	c->ops->shutdown(c);
}

void cluster_close(struct cluster *c)
{
	if (!c)
		return;
	c->ops->shutdown(c);
	c->ops->close(c);
	if (!c->abandoned)
		destroy(c);
}

const struct cluster_host *cluster_hosts(const struct cluster *c, size_t *ret_n)
{
	*ret_n = c->n_hosts;
	return c->hosts;
}

const char *cluster_self(const struct cluster *c)
{
	return c->self;
}

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
			"takes over nor "
			"votes until it is back; check the network to the other hosts",
			cluster_verdict_text(v));
	pthread_mutex_unlock(&c->lock);
}

/* --- announcements ---------------------------------------------------------------------------- */

void cluster_poke(struct cluster *c)
{
	if (c)
		c->ops->poke(c);
}

int cluster_take_announcement(
	struct cluster *c, size_t host, uint32_t pid, const void *msg, size_t len)
{
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
