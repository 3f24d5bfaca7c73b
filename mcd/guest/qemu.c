/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A QEMU as a guest: its table of functions, and its memory. */
#include "mcd/guest/guest-private.h"

#include <stdlib.h>
#include <string.h>

static int open_memory(struct guest *g, struct ramblocks *ret, struct mc_error *err)
{
	return ramblocks_open(qemu_of(g)->qmp, g->pid, ret, err);
}

static int track(struct guest *g, const struct ramblocks *ram, enum dirty_backend want,
	struct dirty **ret, struct mc_error *err)
{
	struct dirty_region regions[RAMBLOCKS_MAX];
	for (size_t i = 0; i < ram->n; i++)
		regions[i] = (struct dirty_region){ram->v[i].qemu_addr, ram->v[i].size};
	return dirty_open(g->pid, regions, ram->n, want, ret, err);
}

static int read_roms(struct guest *g, struct roms *ret, struct mc_error *err)
{
	return roms_read(qemu_of(g)->qmp, g->pid, ret, err);
}

static int write_roms(struct guest *g, const struct roms *roms, struct mc_error *err)
{
	return roms_write(qemu_of(g)->qmp, g->pid, roms, err);
}

static int set_time(struct guest *g, const char *socket, int64_t tolerance,
	void (*done)(void *ctx, const struct guest_time *what), void *ctx, struct guest_agent **ret,
	struct mc_error *err)
{
	return guest_agent_set_time(socket, g->pid, tolerance, done, ctx, ret, err);
}

static const struct guest_ops qemu_ops = {
	.require = qemu_require,
	.ping = qemu_ping,
	.pause = qemu_pause,
	.cont = qemu_cont,
	.stood_still = qemu_stood_still,
	.take_reset = qemu_take_reset,
	.reset = qemu_reset,
	.why_stopped = qemu_why_stopped,
	.save_devices = qemu_save_devices,
	.activate = qemu_activate,
	.stay_stopped = qemu_stay_stopped,
	.next_event = qemu_next_event,
	.event_back = qemu_event_back,
	.shutdown = qemu_shutdown,
	.kill = qemu_kill,
	.free = qemu_free,
	.open_memory = open_memory,
	.bring_ram = qemu_bring_ram,
	.track = track,
	.read_roms = read_roms,
	.write_roms = write_roms,
	.migratable = qemu_migratable,
	.inventory = qemu_inventory,
	.set_time = set_time,
	.disk_size = qemu_disk_size,
	.disk_flushes = qemu_disk_flushes,
	.mirror_begin = qemu_mirror_begin,
	.mirror_look = qemu_mirror_look,
	.mirror_check = qemu_mirror_check,
	.mirror_end = qemu_mirror_end,
	.mirror_yank = qemu_mirror_yank,
	.export_begin = qemu_export_begin,
	.export_end = qemu_export_end,
};

struct qemu *qemu_new(const char *name, const char *run_dir)
{
	struct qemu *q = calloc(1, sizeof *q);
	if (!q)
		return NULL;
	q->guest = (struct guest){.ops = &qemu_ops, .pid = -1, .pidfd = -1};
	q->devices_fd = q->devices_number = q->incoming_fd = q->incoming_number = -1;
	q->name = strdup(name);
	q->run_dir = strdup(run_dir);
	if (q->name && q->run_dir)
		return q;
	qemu_free(&q->guest);
	return NULL;
}
