/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The surroundings of the VMs (vm/env.h) as this daemon has them: voters, keep-alives, cluster,
 * links. */
#include "common/clock.h"
#include "common/log.h"
#include "diskmirror/disklink.h"
#include "mcd/hosts/hosts.h"
#include "mcd/standby/refuse.h"

#include <string.h>
#include <unistd.h>

#define CONNECT_WAIT (1500 * MC_MSEC)
#define CONNECT_DISK_WAIT                                                                          \
	(5 * MC_SEC) /* the standby agrees on RDMA once it has come to its disks */

static void known(void *ctx, const char *vm, struct own_record *ret)
{
	struct daemon *d = ctx;
	voter_known(d->voter, vm, ret);
}

static int current(
	void *ctx, const char *vm, uint64_t deadline, struct own_record *ret, struct mc_error *err)
{
	struct daemon *d = ctx;
	return voter_current(d->voter, vm, deadline, ret, err);
}

static int propose(void *ctx, const char *vm, const struct own_record *next, uint64_t deadline,
	struct own_record *ret_decided, struct mc_error *err)
{
	struct daemon *d = ctx;
	return voter_propose(d->voter, vm, next, deadline, ret_decided, err);
}

static int force(void *ctx, const char *vm, const struct own_record *next,
	struct own_record *ret_decided, struct mc_error *err)
{
	struct daemon *d = ctx;
	return voter_force(d->voter, vm, next, ret_decided, err);
}

static void reachable(void *ctx, size_t *ret_connected, size_t *ret_total)
{
	struct daemon *d = ctx;
	voter_reachable(d->voter, ret_connected, ret_total);
}

static uint64_t ask_heard(void *ctx, const char *host, uint64_t deadline)
{
	struct daemon *d = ctx;
	return voter_ask_heard(d->voter, host, deadline);
}

static bool suspected(void *ctx, const char *host)
{
	struct daemon *d = ctx;
	return keepalive_suspected(d->keepalive, host);
}

static uint64_t heard_age(void *ctx, const char *host)
{
	struct daemon *d = ctx;
	return keepalive_age(d->keepalive, host);
}

static bool quorate(void *ctx)
{
	struct daemon *d = ctx;
	return cluster_quorate(d->cluster);
}

static void changed(void *ctx)
{
	struct daemon *d = ctx;
	cluster_poke(d->cluster);
}

static void emit(void *ctx, const char *event, json_t *data)
{
	struct daemon *d = ctx;
	control_emit(d->control, event, data);
}

/* --- links ------------------------------------------------------------------------------------ */

static int stream_of(struct rd_link *l, struct vm_stream *ret, struct mc_error *err)
{
	struct vm_stream s = {0};
	if (l->rdma)
		snprintf(s.device, sizeof s.device, "%s", rd_device_name(l->rdma));
	memcpy(s.why, l->why, sizeof s.why);
	int r = transport_new(l, &s.link, err);
	if (r == 0)
		*ret = s;
	return r;
}

static int dial(struct daemon *d, enum rd_mode mode, const struct rd_wants *wants, const char *vm,
	const char *host, enum link_purpose purpose, uint64_t wait, struct rd_link *ret,
	struct mc_error *err)
{
	const struct config_host *h = config_find_host(&d->cfg, host);
	struct link_target to = {host, h->address, h->port, purpose, vm};
	return rd_dial(mode, wants, &d->link, &to, mc_now() + wait, ret, err);
}

static int connect_to(void *ctx, const char *vm, const char *host, uint64_t buffer,
	struct vm_stream *ret, struct mc_error *err)
{
	struct daemon *d = ctx;
	struct rd_wants wants;
	struct rd_link link;
	transport_rdma_wants(true, buffer, &wants);
	int r = dial(d, d->cfg.transport, &wants, vm, host, LINK_DATA, CONNECT_WAIT, &link, err);
	return r < 0 ? r : stream_of(&link, ret, err);
}

static int welcome(void *ctx, int fd, const struct link_peer *peer, struct vm_stream *ret,
	struct mc_error *err)
{
	struct daemon *d = ctx;
	struct rd_wants wants;
	struct rd_link link;
	transport_rdma_wants(false, 0, &wants);
	int r = rd_welcome(
		d->cfg.transport, &wants, fd, peer, mc_now() + RD_AGREE_TIME, &link, err);
	if (r < 0) {
		standby_refuse_tcp(fd, err);
		return r;
	}
	return stream_of(&link, ret, err);
}

static int connect_disk(void *ctx, const char *vm, const char *host, bool rdma,
	struct disklink **ret, struct mc_error *err)
{
	struct daemon *d = ctx;
	struct rd_link link;
	int r = dial(d, rdma ? d->cfg.transport : RD_TCP, &disklink_rdma_wants, vm, host, LINK_DISK,
		CONNECT_DISK_WAIT, &link, err);
	if (r < 0)
		return r;
	if (link.rdma)
		log_info("%s: its disks' writes go over RDMA (%s)", vm, rd_device_name(link.rdma));
	else if (link.why[0])
		log_notice("%s: its disks' writes go over TCP, not RDMA: %s", vm, link.why);
	return disklink_new(&link, ret, err);
}

static int welcome_disk(void *ctx, int fd, const struct link_peer *peer, struct disklink **ret,
	struct mc_error *err)
{
	struct daemon *d = ctx;
	struct rd_link link;
	int r = rd_welcome(d->cfg.transport, &disklink_rdma_wants, fd, peer,
		mc_now() + RD_AGREE_TIME, &link, err);
	if (r < 0) {
		close(fd);
		return r;
	}
	return disklink_new(&link, ret, err);
}

void env_of_daemon(struct daemon *d)
{
	static const struct vm_env_ops ops = {
		.known = known,
		.current = current,
		.propose = propose,
		.force = force,
		.reachable = reachable,
		.ask_heard = ask_heard,
		.suspected = suspected,
		.heard_age = heard_age,
		.quorate = quorate,
		.changed = changed,
		.emit = emit,
		.connect = connect_to,
		.welcome = welcome,
		.connect_disk = connect_disk,
		.welcome_disk = welcome_disk,
	};
	/* What "auto" came to when mcd started: probing again for each VM would take time. */
	const char *netbuf = strcmp(d->netbuf_name, "none") ? d->netbuf_name
							    : config_netbuf_names[d->cfg.netbuf];
	d->env = (struct vm_env){
		.ops = &ops, .ctx = d, .cfg = &d->cfg, .netbuf = netbuf, .guests = &guest_qemu};
}
