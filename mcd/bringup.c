/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Brings up the parts in order of dependency, and tells the VMs what the parts tell. */
#include "mcd/bringup.h"

#include "common/clock.h"
#include "common/log.h"
#include "mcd/guest/dirty/dirty.h"
#include "mcd/hosts/hosts.h"
#include "mcd/verbs/verbs.h"
#include "mcd/vm/mailbox.h"
#include "mcd/vm/owner.h"
#include "mcd/vm/timing.h"
#include "netbuf/netbuf.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* --- what the parts tell us, from their threads ----------------------------------------------- */

static void on_suspect(void *ctx, const char *peer, uint64_t last_heard)
{
	struct daemon *d = ctx;
	/* first: the takeover is in a hurry, the log is not */
	table_ring_all(d->vms, WAKE_SUSPECT);
	if (last_heard)
		log_warn("keep-alives of %s stopped: last heard %.0f ms ago", peer,
			(double)(mc_now() - last_heard) / 1e6);
	else
		log_warn("keep-alives of %s were never heard since mcd started", peer);
	control_emit(d->control, "KEEPALIVE_LOST",
		json_pack("{s:s, s:I}", "peer", peer, "last_heard", (json_int_t)last_heard));
}

static void on_alive(void *ctx, const char *peer)
{
	struct daemon *d = ctx;
	log_info("keep-alives of %s are heard", peer);
	control_emit(d->control, "KEEPALIVE_BACK", json_pack("{s:s}", "peer", peer));
}

static uint64_t on_heard_age(void *ctx, const char *host)
{
	struct daemon *d = ctx;
	return d->keepalive ? keepalive_age(d->keepalive, host) : UINT64_MAX;
}

static bool on_may_grant(void *ctx)
{
	struct daemon *d = ctx;
	return cluster_quorate(d->cluster);
}

static void on_learned(void *ctx, const char *name, const struct own_record *rec)
{
	struct daemon *d = ctx;
	struct vm *vm = table_known(d->vms, name);
	if (vm)
		vm_learned(vm, rec);
}

/* --- bringing up -------------------------------------------------------------------------------
 */

static int make_dir(const char *path, struct mc_error *err)
{
	if (mkdir(path, 0700) == 0 || errno == EEXIST)
		return 0;
	return mc_error_set(err, -errno, MC_ECLASS_CONFIG, "cannot make the directory %s: %s", path,
		strerror(errno));
}

static int open_voter(struct daemon *d, struct mc_error *err)
{
	struct voter_peer peers[CONFIG_HOSTS_MAX];
	for (size_t i = 0; i < d->cfg.n_hosts; i++) {
		memcpy(peers[i].name, d->cfg.hosts[i].name, sizeof peers[i].name);
		memcpy(peers[i].address, d->cfg.hosts[i].address, sizeof peers[i].address);
		peers[i].port = d->cfg.hosts[i].port;
	}
	struct voter_config vc = {
		.self = d->cfg.name,
		.voters = peers,
		.n_voters = d->cfg.n_hosts,
		.state_dir = d->cfg.state_dir,
		.key = &d->key,
		.instance = d->link.instance,
		.local_address = d->self->address,
		.heard_age = on_heard_age,
		.learned = on_learned,
		.may_grant = on_may_grant,
		.ctx = d,
	};
	return voter_open(&vc, &d->voter, err);
}

static int open_keepalive(struct daemon *d, struct mc_error *err)
{
	struct keepalive_peer peers[CONFIG_HOSTS_MAX];
	size_t n = 0;
	for (size_t i = 0; i < d->cfg.n_hosts; i++) {
		if (&d->cfg.hosts[i] == d->self)
			continue;
		memcpy(peers[n].name, d->cfg.hosts[i].name, sizeof peers[n].name);
		snprintf(peers[n].address, sizeof peers[n].address, "%s",
			config_keepalive_address(&d->cfg.hosts[i]));
		peers[n++].port = d->cfg.hosts[i].port;
	}
	struct keepalive_config kc = {
		.self = d->cfg.name,
		.local_address = config_keepalive_address(d->self),
		.key = &d->key,
		.instance = d->link.instance,
		.interval = d->cfg.keepalive_interval,
		.misses = d->cfg.keepalive_misses,
		.mode = d->cfg.transport,
		.peers = peers,
		.n_peers = n,
		.suspect = on_suspect,
		.alive = on_alive,
		.ctx = d,
	};
	return keepalive_new(&kc, &d->keepalive, err);
}

static void probe(struct daemon *d)
{
	struct mc_error err = MC_ERROR_INIT;
	enum dirty_backend b;
	d->dirty_name = d->netbuf_name = "none";
	if (dirty_probe(DIRTY_AUTO, &b, &err) == 0)
		d->dirty_name = b == DIRTY_PAGEMAP_SCAN ? "pagemap-scan" : "soft-dirty";
	else
		log_warn("no VM can be protected from this host: %s", err.msg);
	if (netbuf_probe(config_netbuf_names[d->cfg.netbuf], &d->netbuf_name, &err) < 0)
		log_warn("no VM can run on this host: %s", err.msg);
}

int bring_up(struct daemon *d, struct mc_error *err)
{
	char path[300];
	snprintf(path, sizeof path, "%s/control.sock", d->cfg.run_dir);
	int r = link_key_load(d->cfg.key_file, &d->key, err);
	if (r < 0 || (r = make_dir(d->cfg.run_dir, err)) < 0 ||
		(r = make_dir(d->cfg.state_dir, err)) < 0)
		return r;
	if ((r = membership_open(d, err)) < 0) /* who we are, and who votes */
		return r;
	d->link.name = d->cfg.name;
	d->link.key = &d->key;
	d->link.address = d->self->address;
	vm_timing(&d->cfg, d->cfg.delay, &d->timing);
	probe(d);
	env_of_daemon(d);
	if ((r = table_new(&d->env, &d->vms, err)) < 0)
		return r;
	if ((r = control_new(d->loop, path, d->cfg.name, daemon_verbs, d, &d->control, err)) < 0)
		return r;
	if ((r = open_voter(d, err)) < 0 || (r = open_keepalive(d, err)) < 0)
		return r;
	/* VMs before the listener: a peer that connects at once must find its VM. */
	if ((r = table_make_all(d->vms, err)) < 0)
		return r;
	cluster_start(d->cluster);
	return listener_new(d, &d->listener, err);
}

void take_down(struct daemon *d)
{
	table_stop(d->vms);
	if (d->cluster)
		cluster_shutdown(d->cluster);
	if (d->voter)
		voter_shutdown(d->voter);
	listener_free(d->listener); /* its threads use voter and keep-alive */
	keepalive_free(d->keepalive);
	voter_close(d->voter); /* asks the cluster to the last */
	cluster_close(d->cluster);
	control_free(d->control);
	table_free(d->vms);
}
