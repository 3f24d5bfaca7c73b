/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between the daemon and the other hosts. */
#pragma once
#include "mcd/hosts/daemon.h"

/* env.c: fills in d->env of what d has, and will have (the voter and so on may come later). */
void env_of_daemon(struct daemon *d);

/* listener.c: accepts connections of the other hosts and hands them to whom they are for. */
int listener_new(struct daemon *d, struct listener **ret, struct mc_error *err);
void listener_free(struct listener *l);

/* membership.c: the cluster around us (failover/cluster.h). */
/* Opens d->cluster; afterwards d->cfg holds the final hosts and our name, and d->self is set.
 * Leaves nothing open on failure. */
int membership_open(struct daemon *d, struct mc_error *err);

/* For `mcctl status`: adds "cluster", "cluster_alarm" where there is one, and to `vms` those of the
 * other hosts, each with "host"; only `vm` unless that is NULL. */
void membership_status(struct daemon *d, json_t *status, json_t *vms, const char *vm);
/* Whether some other host has announced that VM. */
bool membership_knows(struct daemon *d, const char *vm);
