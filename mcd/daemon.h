/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What one mcd process consists of; made by main.c, read-only afterwards except `vms` (locked). */
#pragma once
#include "common/link.h"
#include "failover/cluster.h"
#include "failover/timing.h"
#include "failover/vote.h"
#include "mcd/config/config.h"
#include "mcd/control/control.h"
#include "mcd/wire/keepalive.h"
#include <pthread.h>

struct vm;
struct listener;

struct daemon {
	struct config cfg;
	struct link_key key;
	uint64_t instance; /* random: tells this process from the one before it */
	const struct config_host *self;
	const char *netbuf_name, *dirty_name; /* what "auto" comes to on this host */
	struct timing timing;
	sd_event *loop;
	struct control *control;
	struct cluster *cluster;
	struct voter *voter;
	struct keepalive *keepalive;
	struct listener *listener;
	pthread_mutex_t making; /* one VM is made at a time; taken before lock */
	pthread_mutex_t lock;   /* of the list of VMs */
	size_t n_vms;
	struct vm *vms[CONFIG_VMS_MAX];
};

/* The VM of that name, made on first use if it has a configuration file. */
int daemon_find_vm(struct daemon *d, const char *name, struct vm **ret, struct mc_error *err);
struct vm *daemon_known_vm(struct daemon *d, const char *name); /* NULL if not made yet */

/* Timing for a VM with its own delay. */
void daemon_timing(const struct daemon *d, uint64_t delay, struct timing *ret);

extern const struct control_verb daemon_verbs[]; /* verbs.c */
json_t *daemon_check(struct daemon *d, struct vm *vm); /* check.c; vm may be NULL */

/* Accepts connections of the other hosts and hands them to whom they are for. */
int listener_new(struct daemon *d, struct listener **ret, struct mc_error *err);
void listener_free(struct listener *l);
