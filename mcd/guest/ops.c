/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is the same for every guest: who stopped it, whether it is there, and the way to its own
 * functions. */
#include "mcd/guest/ops.h"

#include "common/clock.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>

pid_t guest_pid(const struct guest *g)
{
	return g->pid;
}

int guest_pidfd(const struct guest *g)
{
	return g->pidfd;
}

bool guest_gone_within(const struct guest *g, uint64_t ns)
{
	struct pollfd p = {.fd = g->pidfd, .events = POLLIN};
	uint64_t deadline = ns ? mc_now() + ns : 0;
	for (;;) {
		int r = poll(&p, 1, mc_ms_left(deadline));
		if (r != -1 || errno != EINTR)
			return r > 0;
	}
}

bool guest_alive(const struct guest *g)
{
	return !guest_gone_within(g, 0);
}

/* --- who stopped it --------------------------------------------------------------------------- */

int guest_pause(struct guest *g, uint64_t timeout_ns, struct mc_error *err)
{
	bool was_running = true;
	int r = g->ops->pause(g, timeout_ns, &was_running, err);
	/* One that stood already stays whose it was. */
	g->ours |= r < 0 || was_running;
	return r;
}

int guest_continue(struct guest *g, uint64_t timeout_ns, struct mc_error *err)
{
	int r = g->ops->cont(g, timeout_ns, err);
	if (r == 0)
		g->ours = false;
	return r;
}

int guest_resume(struct guest *g, uint64_t timeout_ns, struct mc_error *err)
{
	return g->ours ? guest_continue(g, timeout_ns, err) : 0;
}

bool guest_paused_by_us(const struct guest *g)
{
	return g && g->ours;
}

/* --- the way to its own functions ------------------------------------------------------------- */

int guest_require(struct guest *g, struct mc_error *err)
{
	return g->ops->require(g, err);
}

int guest_ping(struct guest *g, uint64_t timeout_ns, struct mc_error *err)
{
	return g->ops->ping(g, timeout_ns, err);
}

bool guest_take_reset(struct guest *g)
{
	return g->ops->take_reset(g);
}

int guest_stood_still(struct guest *g, uint64_t timeout_ns, struct mc_error *err)
{
	return g->ops->stood_still(g, timeout_ns, err);
}

int guest_reset(struct guest *g, uint64_t timeout_ns, struct mc_error *err)
{
	return g->ops->reset(g, timeout_ns, err);
}

int guest_why_stopped(
	struct guest *g, uint64_t timeout_ns, enum guest_event *ret, struct mc_error *err)
{
	return g->ops->why_stopped(g, timeout_ns, ret, err);
}

int guest_save_devices(struct guest *g, uint64_t timeout_ns, uint8_t **buf, size_t *cap,
	size_t *ret_len, struct mc_error *err)
{
	assert(!*cap == !*buf);
	int r = g->ops->save_devices(g, timeout_ns, buf, cap, ret_len, err);
	assert(r < 0 || (*ret_len && *ret_len <= *cap));
	return r;
}

int guest_activate(struct guest *g, const uint8_t *state, size_t len, uint64_t timeout_ns,
	uint64_t *ret_loaded_at, struct mc_error *err)
{
	assert(!g->activated && !g->ours); /* once: its memory is the guest's own from then on */
	g->activated = true;
	return g->ops->activate(g, state, len, timeout_ns, ret_loaded_at, err);
}

bool guest_activated(const struct guest *g)
{
	return g->activated;
}

int guest_stay_stopped(struct guest *g, uint64_t timeout_ns, struct mc_error *err)
{
	assert(!g->activated);
	return g->ops->stay_stopped(g, timeout_ns, err);
}

enum guest_event guest_next_event(struct guest *g)
{
	return g->ops->next_event(g);
}

void guest_event_back(struct guest *g, enum guest_event ev)
{
	g->ops->event_back(g, ev);
}

int guest_shutdown(struct guest *g, uint64_t deadline, struct mc_error *err)
{
	return g->ops->shutdown(g, deadline, err);
}

void guest_kill(struct guest *g)
{
	if (g)
		g->ops->kill(g);
}

void guest_free(struct guest *g)
{
	if (g)
		g->ops->free(g);
}

int guest_open_memory(struct guest *g, struct ramblocks *ret, struct mc_error *err)
{
	int r = g->ops->open_memory(g, ret, err);
	assert(r < 0 || (ret->n && ret->n <= RAMBLOCKS_MAX));
	for (size_t i = 0; r == 0 && i < ret->n; i++)
		assert(ret->v[i].map && ret->v[i].size && ret->v[i].size % 4096 == 0);
	return r;
}

int guest_bring_ram(
	struct guest *g, const struct cmdline_plan *plan, int *ret_fds, struct mc_error *err)
{
	return g->ops->bring_ram(g, plan, ret_fds, err);
}

int guest_track(struct guest *g, const struct ramblocks *ram, enum dirty_backend want,
	struct dirty **ret, struct mc_error *err)
{
	assert(ram->n && ram->n <= RAMBLOCKS_MAX);
	return g->ops->track(g, ram, want, ret, err);
}

int guest_read_roms(struct guest *g, struct roms *ret, struct mc_error *err)
{
	return g->ops->read_roms(g, ret, err);
}

int guest_write_roms(struct guest *g, const struct roms *roms, struct mc_error *err)
{
	return g->ops->write_roms(g, roms, err);
}

int guest_inventory(
	struct guest *g, uint64_t timeout_ns, struct guest_inventory *ret, struct mc_error *err)
{
	return g->ops->inventory(g, timeout_ns, ret, err);
}

int guest_migratable(struct guest *g, uint64_t timeout_ns, struct mc_error *err)
{
	return g->ops->migratable(g, timeout_ns, err);
}

int guest_set_time(struct guest *g, const char *socket, int64_t tolerance,
	void (*done)(void *ctx, const struct guest_time *what), void *ctx, struct guest_agent **ret,
	struct mc_error *err)
{
	return g->ops->set_time(g, socket, tolerance, done, ctx, ret, err);
}

int guest_disk_size(
	struct guest *g, const char *disk, uint64_t timeout_ns, uint64_t *ret, struct mc_error *err)
{
	return g->ops->disk_size(g, disk, timeout_ns, ret, err);
}

int guest_disk_flushes(struct guest *g, uint64_t timeout_ns, uint64_t *ret, struct mc_error *err)
{
	return g->ops->disk_flushes(g, timeout_ns, ret, err);
}

int guest_mirror_begin(struct guest *g, const char *disk, const char *socket, uint64_t timeout_ns,
	struct mc_error *err)
{
	return g->ops->mirror_begin(g, disk, socket, timeout_ns, err);
}

int guest_mirror_look(struct guest *g, const char *disk, uint64_t timeout_ns,
	struct guest_mirror *ret, struct mc_error *err)
{
	return g->ops->mirror_look(g, disk, timeout_ns, ret, err);
}

int guest_mirror_check(
	struct guest *g, const struct config_vm *vm, uint64_t timeout_ns, struct mc_error *err)
{
	return g->ops->mirror_check(g, vm, timeout_ns, err);
}

int guest_mirror_end(struct guest *g, const char *disk, uint64_t timeout_ns, struct mc_error *err)
{
	return g->ops->mirror_end(g, disk, timeout_ns, err);
}

int guest_mirror_yank(
	struct guest *g, const struct config_vm *vm, uint64_t timeout_ns, struct mc_error *err)
{
	return g->ops->mirror_yank(g, vm, timeout_ns, err);
}

int guest_export_begin(struct guest *g, const char *disk, const char *socket, uint64_t timeout_ns,
	struct mc_error *err)
{
	return g->ops->export_begin(g, disk, socket, timeout_ns, err);
}

void guest_export_end(struct guest *g, const char *disk, uint64_t timeout_ns)
{
	g->ops->export_end(g, disk, timeout_ns);
}
