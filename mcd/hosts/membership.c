/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/hosts/hosts.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "mcd/vm/status.h"

#include <string.h>

static void on_gate(void *ctx, bool open, const char *why)
{
	struct daemon *d = ctx;
	if (open)
		log_notice("cluster: %s", why);
	else
		log_warn(
			"cluster: %s: no takeovers and no votes from here until this changes", why);
	control_emit(
		d->control, open ? "QUORUM" : "QUORUM_LOST", json_pack("{s:s}", "cluster", why));
}

struct announcement {
	struct cluster_vm *v;
	size_t n, max;
};

static void announce(void *ctx, struct vm *vm)
{
	struct announcement *a = ctx;
	if (a->n < a->max)
		vm_announcement(vm, &a->v[a->n++]);
}

static size_t on_vms(void *ctx, struct cluster_vm *ret, size_t max)
{
	struct daemon *d = ctx;
	struct announcement a = {ret, 0, max};
	table_each(d->vms, announce, &a);
	return a.n;
}

/* corosync's list in place of the file's; what the file says of a host stays noted for the dump. */
static void take_hosts(struct daemon *d)
{
	size_t n;
	const struct cluster_host *hosts = cluster_hosts(d->cluster, &n);
	struct config_host list[CONFIG_HOSTS_MAX] = {0};
	for (size_t i = 0; i < n; i++) {
		const struct config_host *old = config_find_host(&d->cfg, hosts[i].name);
		if (old)
			list[i] = *old;
		list[i].from_corosync = !old || !old->lines[0];
		memcpy(list[i].name, hosts[i].name, sizeof list[i].name);
		memcpy(list[i].address, hosts[i].address, sizeof list[i].address);
		list[i].port = hosts[i].port;
	}
	memcpy(d->cfg.hosts, list, sizeof list);
	d->cfg.n_hosts = n;
	snprintf(d->cfg.name, sizeof d->cfg.name, "%s", cluster_self(d->cluster));
}

int membership_open(struct daemon *d, struct mc_error *err)
{
	_Static_assert(
		CONFIG_HOSTS_MAX == CLUSTER_HOSTS_MAX && CONFIG_VMS_MAX == CLUSTER_VMS_MAX, "");
	struct cluster_host hosts[CONFIG_HOSTS_MAX] = {0};
	for (size_t i = 0; i < d->cfg.n_hosts; i++) {
		const struct config_host *h = &d->cfg.hosts[i];
		memcpy(hosts[i].name, h->name, sizeof hosts[i].name);
		memcpy(hosts[i].address, h->address, sizeof hosts[i].address);
		hosts[i].port = h->lines[1] ? h->port : 0;
	}
	struct cluster_config cc = {
		.mode = config_cluster_names[d->cfg.cluster],
		.self = d->cfg.lines[0] ? d->cfg.name : "",
		.port = d->cfg.port,
		.hosts = hosts,
		.n_hosts = d->cfg.n_hosts,
		.gate = on_gate,
		.vms = on_vms,
		.ctx = d,
	};
	int r = cluster_open(&cc, &d->cluster, err);
	if (r < 0)
		return r;
	if (cluster_managed(d->cluster))
		take_hosts(d);
	if (d->cfg.cluster != CONFIG_CLUSTER_STATIC) /* else config_load has done so */
		r = config_check_hosts(&d->cfg, err);
	if (r < 0) {
		cluster_close(mc_steal_ptr(d->cluster));
		return r;
	}
	d->self = config_find_host(&d->cfg, d->cfg.name);
	return 0;
}

/* --- status ----------------------------------------------------------------------------------- */

/* A VM that merely does not run there is no news. */
static bool worth_showing(const struct cluster_vm *vm)
{
	return strcmp(vm->role, "none") || !strcmp(vm->state, "failed") || vm->alarm[0];
}

void membership_status(struct daemon *d, json_t *status, json_t *vms, const char *only)
{
	char text[400];
	size_t n;
	cluster_describe(d->cluster, text, sizeof text);
	json_object_set_new(status, "cluster", json_string(text));
	cluster_alarm(d->cluster, text, sizeof text);
	if (text[0])
		json_object_set_new(status, "cluster_alarm", json_string(text));
	_cleanup_free_ struct cluster_vm *all = cluster_vms(d->cluster, &n);
	for (size_t i = 0; i < n; i++) {
		const struct cluster_vm *vm = &all[i];
		if ((only && strcmp(vm->name, only)) || !worth_showing(vm))
			continue;
		json_array_append_new(vms,
			json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:s}", "name", vm->name, "host",
				vm->host, "role", vm->role, "state", vm->state, "peer", vm->peer,
				"generation", (json_int_t)vm->generation, "alarm", vm->alarm));
	}
}

bool membership_knows(struct daemon *d, const char *name)
{
	size_t n;
	bool found = false;
	_cleanup_free_ struct cluster_vm *all = cluster_vms(d->cluster, &n);
	for (size_t i = 0; i < n; i++)
		found |= !strcmp(all[i].name, name);
	return found;
}
