/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `mcctl check`: what this host offers and lacks, each with a hint. Quick and without side effects.
 */
#include "common/cleanup.h"
#include "common/clock.h"
#include "mcd/hosts/daemon.h"
#include "mcd/guest/dirty/dirty.h"
#include "mcd/guest/dirty/trace.h"
#include "mcd/verbs/check.h"
#include "mcd/verbs/verbs.h"
#include "mcd/vm/disks.h"
#include "mcd/vm/machine.h"
#include "mcd/vm/published.h"
#include "mcd/wire/transport.h"

#include <errno.h>

static void check_dirty(struct daemon *d, json_t *checks)
{
	struct mc_error err = MC_ERROR_INIT;
	enum dirty_backend got;
	if (dirty_probe(vm_dirty_wanted(&d->cfg), &got, &err) == 0)
		check_add(checks, "dirty tracking", true,
			got == DIRTY_PAGEMAP_SCAN ? "pagemap-scan" : "soft-dirty", "");
	else
		check_add(checks, "dirty tracking", false, err.msg, "");
}

/* Both backends of the dirty tracking need it, whoever QEMU runs as. */
static void check_tracing(json_t *checks)
{
	struct mc_error err = MC_ERROR_INIT;
	char text[100];
	int scope = 0;
	bool ok = trace_probe(&scope, &err) == 0;
	snprintf(
		text, sizeof text, "mcd has CAP_SYS_PTRACE, kernel.yama.ptrace_scope is %d", scope);
	check_add(checks, "tracing of QEMU", ok, ok ? text : err.msg, "");
}

/* With what checkpoints would travel: whether the other host has it too is agreed on with it. */
static void check_transport(struct daemon *d, json_t *checks)
{
	struct mc_error err = MC_ERROR_INIT;
	enum rd_mode mode = d->cfg.transport;
	struct rd_device dev;
	struct rd_wants wants;
	char text[1000];
	if (mode == RD_TCP) {
		check_add(checks, "transport", true, "tcp, as configured", "");
		return;
	}
	int r = rd_probe(d->self->address, &dev, &err);
	if (r < 0) {
		snprintf(text, sizeof text, "tcp: %s", err.msg);
		check_add(checks, "transport", mode == RD_AUTO, mode == RD_AUTO ? text : err.msg,
			mode == RD_AUTO ? ""
					: "transport = rdma in mcd.conf: no VM can be protected");
		return;
	}
	transport_rdma_wants(true, d->cfg.max_buffer, &wants);
	r = rd_memlock_check(wants.region + RD_STREAM_FIXED + wants.pinned, &err);
	snprintf(text, sizeof text, "rdma: device %s, port %u, MTU %u, has the address %s",
		dev.name, dev.port, dev.mtu, d->self->address);
	check_add(checks, "transport", r == 0, r == 0 ? text : err.msg,
		r == 0            ? ""
		: mode == RD_AUTO ? "until then checkpoints go over tcp"
				  : "transport = rdma in mcd.conf: no VM can be protected");
}

static void check_voters(struct daemon *d, json_t *checks)
{
	char text[160];
	size_t connected, total;
	voter_reachable(d->voter, &connected, &total);
	snprintf(text, sizeof text, "%zu of %zu voters connected", connected, total);
	check_add(checks, "majority", connected > total / 2, text,
		connected > total / 2
			? ""
			: "start mcd on the other hosts; until then no VM can start or fail over");
	if (total < 3)
		check_add(checks, "third voter", false, "fewer than three voters are configured",
			"with two, the loss of either host leaves no majority and nothing fails "
			"over by itself: add a third [host] section; it needs no VM");
}

static void check_hosts(struct daemon *d, json_t *checks)
{
	uint64_t limit = d->cfg.keepalive_interval * d->cfg.keepalive_misses;
	for (size_t i = 0; i < d->cfg.n_hosts; i++) {
		const struct config_host *h = &d->cfg.hosts[i];
		struct keepalive_stats ka;
		char name[100], text[500];
		if (h == d->self || keepalive_get_stats(d->keepalive, h->name, &ka) < 0)
			continue;
		snprintf(name, sizeof name, "keep-alive %s", h->name);
		snprintf(text, sizeof text,
			"%s by %s, jitter p99 %.1f ms, max %.1f ms, suspected after %.0f ms%s%s",
			ka.up ? "heard" : "not heard", ka.path == KA_RDMA ? "RDMA" : "TCP",
			(double)ka.jitter_p99 / 1e6, (double)ka.jitter_max / 1e6,
			(double)limit / 1e6, *ka.rdma_why ? "; no RDMA to it: " : "", ka.rdma_why);
		bool near = ka.up && ka.jitter_max > limit / 2;
		check_add(checks, name, ka.up && !near, text,
			!ka.up ? "is mcd running there, with the same cluster key and address?"
			: near ? "the jitter nears the limit: raise keep-alive or keep-alive-misses"
			       : "");
	}
}

static void check_timing(struct daemon *d, json_t *checks)
{
	char text[200];
	snprintf(text, sizeof text,
		"suspicion after %.0f ms, worst case from power-off to running %.0f ms, the guest "
		"waits for a live standby that acknowledges nothing %.0f ms",
		(double)d->timing.suspect_after / 1e6, (double)d->timing.worst_takeover / 1e6,
		(double)d->timing.ack_overdue / 1e6);
	check_add(checks, "takeover time", true, text, "");
}

static void check_vm(struct daemon *d, struct vm *vm, json_t *checks)
{
	struct mc_error err = MC_ERROR_INIT;
	struct cmdline_plan plan = {0};
	struct config_vm *cfg;
	char name[100], unsaved[300];
	snprintf(name, sizeof name, "VM %s", vm->name);
	if (config_load_vm(&d->cfg, vm->name, &cfg, &err) < 0) {
		check_add(checks, name, false, err.msg, "");
		return;
	}
	if (cmdline_plan(cfg, &plan, &err) < 0)
		check_add(checks, name, false, err.msg, "");
	else if (plan.foreign_disks)
		check_add(checks, name, false,
			"it has a writable disk that is in no [disk] section, and cannot be "
			"protected",
			plan.disk_option);
	else if (*vm_get_unsaved(vm, unsaved))
		check_add(checks, name, false, unsaved, "");
	else
		check_add(checks, name, true, "its command line can be protected", "");
	if (plan.argc)
		check_vm_host(vm, cfg, &plan, checks);
	cmdline_plan_clear(&plan);
	config_vm_free(cfg);
}

/* Where each disk is on this host, and whether a replica could be. */
static void check_disks(struct daemon *d, struct vm *vm, json_t *checks)
{
	struct mc_error err = MC_ERROR_INIT;
	struct config_vm *cfg;
	if (config_load_vm(&d->cfg, vm->name, &cfg, &err) < 0)
		return; /* check_vm has said so */
	for (size_t i = 0; i < cfg->n_disks; i++) {
		char name[160], text[400], hint[300];
		bool good = disks_check(vm, cfg, i, text, sizeof text, hint, sizeof hint);
		snprintf(name, sizeof name, "VM %s, disk %s", vm->name, cfg->disks[i].id);
		check_add(checks, name, good, text, hint);
	}
	config_vm_free(cfg);
}

struct ask {
	struct daemon *d;
	json_t *checks;
};

static void check_one(void *ctx, struct vm *vm)
{
	struct ask *a = ctx;
	check_vm(a->d, vm, a->checks);
	check_disks(a->d, vm, a->checks);
}

json_t *daemon_check(struct daemon *d, struct vm *vm)
{
	json_t *checks = json_array();
	struct ask a = {d, checks};
	check_dirty(d, checks);
	check_tracing(checks);
	check_network(d, checks);
	check_transport(d, checks);
	check_voters(d, checks);
	check_hosts(d, checks);
	check_timing(d, checks);
	check_leftovers(d, checks);
	if (vm)
		check_one(&a, vm);
	else
		table_each(d->vms, check_one, &a);
	return json_pack("{s:o}", "checks", checks);
}
