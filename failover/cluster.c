/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The life of a cluster: which backend it is, from its first to its last call. */
#include "failover/cluster-private.h"

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
			"write cluster = static, or build it with libcpg, libquorum and libcmap");
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

void cluster_poke(struct cluster *c)
{
	if (c)
		c->ops->poke(c);
}
