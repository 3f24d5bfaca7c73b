/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by cluster.c (life), the backends, and cluster-state.c, on which the backends stand. */
#pragma once
#include "failover/cluster-view.h"
#include "failover/cluster.h"
#include <pthread.h>

struct cluster_ops {
	const char *name;
	/* Fills c->hosts, c->n_hosts, c->self; what it needs to go on living is its own
	 * (c->backend). */
	int (*open)(struct cluster *c, struct mc_error *err);
	void (*start)(struct cluster *c);
	void (*poke)(struct cluster *c);
	void (*shutdown)(struct cluster *c);
	void (*close)(struct cluster *c);
};

extern const struct cluster_ops cluster_static_ops;
extern const struct cluster_ops *const cluster_corosync_ops; /* NULL: built without it */

struct cluster_announced { /* by one host */
	uint32_t pid;
	size_t n;
	struct cluster_vm *vms;
};

struct cluster {
	struct cluster_config
		cfg; /* hosts and self are copied; the rest of its pointers is not used later */
	const struct cluster_ops *ops;
	void *backend;
	bool abandoned; /* a thread that hangs in a library may come back into this: never freed */
	struct cluster_host overrides[CLUSTER_HOSTS_MAX];
	size_t n_overrides;
	char wanted_self[LINK_NAME_MAX + 1];
	/* constant after open */
	struct cluster_host hosts[CLUSTER_HOSTS_MAX];
	size_t n_hosts;
	char self[LINK_NAME_MAX + 1];

	pthread_mutex_t lock; /* of what follows */
	struct cluster_view view;
	uint64_t seen_at;     /* when the backend's thread was last seen awake */
	uint64_t stall_limit; /* ns */
	char trouble[400];    /* of the backend, a sentence; "" = none */
	struct cluster_announced announced[CLUSTER_HOSTS_MAX]; /* in the order of hosts */
};

/* Makes a cluster with these ops; cluster_open without the choice, for tests too. */
int cluster_open_ops(const struct cluster_config *cfg, const struct cluster_ops *ops,
	struct cluster **ret, struct mc_error *err);

/* cluster-state.c */

/* The verdict now: also closed while the backend's thread has not been seen for too long, because a
 * host that wakes up asks before that thread has noticed that it slept.  Under lock. */
enum cluster_verdict cluster_now(const struct cluster *c);

/* Takes over what host number `host` announces; -EBADMSG: not a message of that host. */
int cluster_take_announcement(
	struct cluster *c, size_t host, uint32_t pid, const void *msg, size_t len);
void cluster_forget(struct cluster *c, size_t host, uint32_t pid); /* pid 0: whichever */

/* cluster-announce.c */
#define CLUSTER_ANNOUNCE_MAX (80 + CLUSTER_VMS_MAX * 480)
size_t cluster_announce_encode(
	uint8_t p[CLUSTER_ANNOUNCE_MAX], const char *host, const struct cluster_vm *vms, size_t n);
/* The number of VMs (ret has room for CLUSTER_VMS_MAX), or -EBADMSG. */
int cluster_announce_decode(const void *msg, size_t len, const char *host, struct cluster_vm *ret);
