/* SPDX-License-Identifier: GPL-2.0-or-later */
/* No cluster manager: the hosts are those of mcd.conf, and the gate stands open. */
#include "failover/cluster-private.h"

#include <errno.h>
#include <string.h>

static int open_static(struct cluster *c, struct mc_error *err)
{
	for (size_t i = 0; i < c->n_overrides; i++) {
		c->hosts[i] = c->overrides[i];
		if (!c->hosts[i].port)
			c->hosts[i].port = c->cfg.port;
	}
	c->n_hosts = c->n_overrides;
	memcpy(c->self, c->wanted_self, sizeof c->self);
	return 0;
}

static void nothing(struct cluster *c)
{
}

const struct cluster_ops cluster_static_ops = {
	.name = "static",
	.open = open_static,
	.start = nothing,
	.poke = nothing,
	.shutdown = nothing,
	.close = nothing,
};
