/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a fake guest does when it is asked: its guest_ops, and its tracker of dirty pages. */
#include "tests/fakes/fake-guest-private.h"

#include "common/clock.h"
#include "mcd/guest/dirty/private.h"
#include "tests/fakes/faults.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096

const char *fake_guest_op_name(enum fake_guest_op op)
{
	static const char *const names[] = {"launch", "adopt", "require", "ping", "pause", "cont",
		"stood-still", "reset", "why-stopped", "save", "activate", "stay-stopped",
		"shutdown", "kill", "free", "open-memory", "bring-ram", "track", "collect", "peek",
		"read-roms", "write-roms", "migratable", "inventory", "set-time", "disk-size",
		"disk-flushes", "mirror-begin", "mirror-look", "mirror-check", "mirror-end",
		"mirror-yank", "export-begin", "export-end"};
	_Static_assert(sizeof names / sizeof *names == FAKE_GUEST_OP_MAX, "each has a name");
	return names[op];
}

struct fake_guest *fake_begin(struct guest *g, enum fake_guest_op op)
{
	struct fake_guest *f = fake_of(g);
	pthread_mutex_lock(&f->lock);
	void (*hook)(void *ctx, struct guest *g, enum fake_guest_op op) = f->hook;
	void *ctx = f->hook_ctx;
	pthread_mutex_unlock(&f->lock);
	if (hook)
		hook(ctx, g, op);
	pthread_mutex_lock(&f->lock);
	/* A tracker, as with a real one, may outlive the guest; nothing else may. */
	assert(!f->freed || op == FAKE_GUEST_COLLECT || op == FAKE_GUEST_PEEK);
	f->op[op].calls++;
	if (op == FAKE_GUEST_PING || op == FAKE_GUEST_PEEK)
		return f;
	const char *name = fake_guest_op_name(op);
	f->log = realloc(f->log, f->log_len + strlen(name) + 2);
	assert(f->log);
	f->log_len += (size_t)sprintf(f->log + f->log_len, "%s%s", f->log_len ? " " : "", name);
	return f;
}

int fake_verdict(struct fake_guest *f, enum fake_guest_op op, struct mc_error *err)
{
	if (f->dead)
		return mc_error_set(
			err, -EPIPE, MC_ECLASS_QMP, "the fake QEMU of %s has ended", f->vm);
	int code = faults_next();
	if (!code && f->op[op].code && !f->op[op].skip--) {
		code = f->op[op].code;
		f->op[op].code = 0;
	}
	if (!code)
		return 0;
	return mc_error_set(err, -code, code == ETIMEDOUT ? MC_ECLASS_TIMEOUT : MC_ECLASS_QMP,
		"injected failure of %s: %s", fake_guest_op_name(op), strerror(code));
}

int fake_end(struct fake_guest *f, int r)
{
	pthread_mutex_unlock(&f->lock);
	return r;
}

static bool done(int r)
{
	return r == 0 || r == -ETIMEDOUT;
}

/* What only succeeds or fails. */
static int simply(struct guest *g, enum fake_guest_op op, struct mc_error *err)
{
	struct fake_guest *f = fake_begin(g, op);
	return fake_end(f, fake_verdict(f, op, err));
}

/* What succeeds with a number. */
static int number(struct guest *g, enum fake_guest_op op, const uint64_t *value, uint64_t *ret,
	struct mc_error *err)
{
	struct fake_guest *f = fake_begin(g, op);
	int r = fake_verdict(f, op, err);
	if (r == 0)
		*ret = *value;
	return fake_end(f, r);
}

static int require(struct guest *g, struct mc_error *err)
{
	return simply(g, FAKE_GUEST_REQUIRE, err);
}

static int ping(struct guest *g, uint64_t timeout_ns, struct mc_error *err)
{
	return simply(g, FAKE_GUEST_PING, err);
}

/* --- running and standing --------------------------------------------------------------------- */

static int pause(struct guest *g, uint64_t timeout_ns, bool *ret_was_running, struct mc_error *err)
{
	struct fake_guest *f = fake_begin(g, FAKE_GUEST_PAUSE);
	int r = fake_verdict(f, FAKE_GUEST_PAUSE, err);
	if (r == 0)
		*ret_was_running = f->running;
	if (done(r)) {
		if (f->running)
			f->why = GUEST_EVENT_STOPPED;
		f->running = f->ran = f->was_reset = false;
		f->standing = true;
	}
	return fake_end(f, r);
}

static int cont(struct guest *g, uint64_t timeout_ns, struct mc_error *err)
{
	struct fake_guest *f = fake_begin(g, FAKE_GUEST_CONT);
	int r = fake_verdict(f, FAKE_GUEST_CONT, err);
	if (done(r)) {
		assert(!f->incoming); /* it would run without a state */
		f->running = true;
		f->standing = false;
	}
	return fake_end(f, r);
}

static bool take_reset(struct guest *g)
{
	struct fake_guest *f = fake_of(g);
	pthread_mutex_lock(&f->lock);
	bool was = f->was_reset;
	f->was_reset = false;
	pthread_mutex_unlock(&f->lock);
	return was;
}

static int stood_still(struct guest *g, uint64_t timeout_ns, struct mc_error *err)
{
	struct fake_guest *f = fake_begin(g, FAKE_GUEST_STOOD_STILL);
	int r = fake_verdict(f, FAKE_GUEST_STOOD_STILL, err);
	if (r == 0 && (f->ran || f->was_reset))
		r = mc_error_set(err, -EIO, MC_ECLASS_STATE,
			"the fake guest of %s did not stand still", f->vm);
	return fake_end(f, r);
}

static int reset(struct guest *g, uint64_t timeout_ns, struct mc_error *err)
{
	struct fake_guest *f = fake_begin(g, FAKE_GUEST_RESET);
	int r = fake_verdict(f, FAKE_GUEST_RESET, err);
	if (done(r)) {
		f->was_reset |= f->standing;
		f->why = GUEST_EVENT_STOPPED;
		fake_push(f, GUEST_EVENT_RESET);
	}
	return fake_end(f, r);
}

static int why_stopped(
	struct guest *g, uint64_t timeout_ns, enum guest_event *ret, struct mc_error *err)
{
	struct fake_guest *f = fake_begin(g, FAKE_GUEST_WHY_STOPPED);
	int r = fake_verdict(f, FAKE_GUEST_WHY_STOPPED, err);
	if (r == 0)
		*ret = f->running ? GUEST_EVENT_NONE : f->why;
	return fake_end(f, r);
}

static int save_devices(struct guest *g, uint64_t timeout_ns, uint8_t **buf, size_t *cap,
	size_t *ret_len, struct mc_error *err)
{
	struct fake_guest *f = fake_begin(g, FAKE_GUEST_SAVE);
	int r = fake_verdict(f, FAKE_GUEST_SAVE, err);
	if (r < 0)
		return fake_end(f, r);
	f->was_reset = false;
	if (f->devices_len > *cap) {
		*buf = realloc(*buf, f->devices_len);
		assert(*buf);
		*cap = f->devices_len;
	}
	memcpy(*buf, f->devices, f->devices_len);
	*ret_len = f->devices_len;
	return fake_end(f, 0);
}

static int stay_stopped(struct guest *g, uint64_t timeout_ns, struct mc_error *err)
{
	struct fake_guest *f = fake_begin(g, FAKE_GUEST_STAY_STOPPED);
	int r = fake_verdict(f, FAKE_GUEST_STAY_STOPPED, err);
	assert(f->incoming);
	if (done(r))
		f->stay_stopped = true;
	return fake_end(f, r);
}

static int activate(struct guest *g, const uint8_t *state, size_t len, uint64_t timeout_ns,
	uint64_t *ret_loaded_at, struct mc_error *err)
{
	struct fake_guest *f = fake_begin(g, FAKE_GUEST_ACTIVATE);
	int r = fake_verdict(f, FAKE_GUEST_ACTIVATE, err);
	assert(f->incoming && !f->activated); /* once */
	if (done(r)) {
		f->activated = malloc(len ? len : 1);
		assert(f->activated);
		memcpy(f->activated, state, len);
		f->activated_len = len;
		f->incoming = false;
		f->running = !f->stay_stopped;
	}
	if (r == 0 && ret_loaded_at)
		*ret_loaded_at = mc_now();
	return fake_end(f, r);
}

/* --- events and the end ----------------------------------------------------------------------- */

static enum guest_event next_event(struct guest *g)
{
	struct fake_guest *f = fake_of(g);
	pthread_mutex_lock(&f->lock);
	assert(!f->freed);
	enum guest_event ev = f->dead ? GUEST_EVENT_GONE : GUEST_EVENT_NONE;
	if (f->n_events) {
		ev = f->events[0];
		memmove(f->events, f->events + 1, --f->n_events * sizeof *f->events);
	}
	return (enum guest_event)fake_end(f, (int)ev);
}

static void event_back(struct guest *g, enum guest_event ev)
{
	struct fake_guest *f = fake_of(g);
	pthread_mutex_lock(&f->lock);
	assert(!f->freed && f->n_events < EVENTS_MAX);
	memmove(f->events + 1, f->events, f->n_events++ * sizeof *f->events);
	f->events[0] = ev;
	pthread_mutex_unlock(&f->lock);
}

static int shut_down(struct guest *g, uint64_t deadline, struct mc_error *err)
{
	struct fake_guest *f = fake_begin(g, FAKE_GUEST_SHUTDOWN);
	int r = f->dead ? 0 : fake_verdict(f, FAKE_GUEST_SHUTDOWN, err);
	fake_end_process(f); /* in every case */
	return fake_end(f, r);
}

static void end(struct guest *g)
{
	struct fake_guest *f = fake_begin(g, FAKE_GUEST_KILL);
	fake_end_process(f);
	fake_end(f, 0);
}

static void let_go(struct guest *g)
{
	struct fake_guest *f = fake_begin(g, FAKE_GUEST_FREE);
	f->freed = true;
	fake_end(f, 0);
}

/* --- memory ----------------------------------------------------------------------------------- */

static int open_memory(struct guest *g, struct ramblocks *ret, struct mc_error *err)
{
	struct fake_guest *f = fake_begin(g, FAKE_GUEST_OPEN_MEMORY);
	int r = fake_verdict(f, FAKE_GUEST_OPEN_MEMORY, err);
	for (size_t i = 0; r == 0 && i < f->n_blocks; i++) {
		const struct fake_block *b = &f->block[i];
		struct ramblock *to = &ret->v[i];
		snprintf(to->id, sizeof to->id, "%s", b->id);
		to->size = b->size;
		to->qemu_addr = (uint64_t)(uintptr_t)b->map;
		to->fd = fcntl(b->fd, F_DUPFD_CLOEXEC, 3);
		to->map = mmap(NULL, b->size, PROT_READ | PROT_WRITE, MAP_SHARED, b->fd, 0);
		assert(to->fd >= 0 && to->map != MAP_FAILED);
		ret->n = i + 1;
	}
	return fake_end(f, r);
}

static int bring_ram(
	struct guest *g, const struct cmdline_plan *plan, int *ret_fds, struct mc_error *err)
{
	struct fake_guest *f = fake_begin(g, FAKE_GUEST_BRING_RAM);
	int r = fake_verdict(f, FAKE_GUEST_BRING_RAM, err);
	for (size_t i = 0; r == 0 && i < f->n_blocks; i++)
		ret_fds[i] = fcntl(f->block[i].fd, F_DUPFD_CLOEXEC, 3);
	return fake_end(f, r);
}

struct fake_dirty {
	struct dirty d;
	struct fake_guest *f;
};

static int collect(struct dirty *d, struct dirty_list *list, struct mc_error *err)
{
	struct fake_guest *f = fake_begin(&((struct fake_dirty *)d)->f->guest, FAKE_GUEST_COLLECT);
	int r = fake_verdict(f, FAKE_GUEST_COLLECT, err);
	for (uint32_t i = 0; i < f->n_blocks; i++)
		for (uint64_t p = 0; r == 0 && p < f->block[i].size / PAGE; p++)
			if (f->block[i].dirty[p]) {
				r = dirty_list_add(list, i, p * PAGE, PAGE, err);
				f->block[i].dirty[p] = false;
			}
	return fake_end(f, r);
}

static int peek(struct dirty *d, uint64_t *ret_bytes, struct mc_error *err)
{
	struct fake_guest *f = fake_begin(&((struct fake_dirty *)d)->f->guest, FAKE_GUEST_PEEK);
	int r = fake_verdict(f, FAKE_GUEST_PEEK, err);
	uint64_t bytes = 0;
	for (size_t i = 0; i < f->n_blocks; i++)
		for (uint64_t p = 0; p < f->block[i].size / PAGE; p++)
			bytes += f->block[i].dirty[p] ? PAGE : 0;
	if (r == 0)
		*ret_bytes = bytes;
	return fake_end(f, r);
}

static void disarm(struct dirty *d)
{
	struct fake_guest *f = ((struct fake_dirty *)d)->f;
	pthread_mutex_lock(&f->lock);
	f->tracker = NULL;
	pthread_mutex_unlock(&f->lock);
}

static int track(struct guest *g, const struct ramblocks *ram, enum dirty_backend want,
	struct dirty **ret, struct mc_error *err)
{
	static const struct dirty_ops ops = {
		.name = "fake", .collect = collect, .peek = peek, .disarm = disarm};
	struct fake_guest *f = fake_begin(g, FAKE_GUEST_TRACK);
	int r = fake_verdict(f, FAKE_GUEST_TRACK, err);
	if (r < 0)
		return fake_end(f, r);
	assert(!f->tracker && ram->n == f->n_blocks);
	struct fake_dirty *d = calloc(1, sizeof *d);
	assert(d);
	d->d = (struct dirty){.ops = &ops, .pagemap_fd = -1, .uffd = -1, .n = ram->n};
	d->d.region = calloc(ram->n, sizeof *d->d.region);
	assert(d->d.region);
	for (size_t i = 0; i < ram->n; i++)
		d->d.region[i] = (struct dirty_region){ram->v[i].qemu_addr, ram->v[i].size};
	d->f = f;
	f->tracker = &d->d;
	for (size_t i = 0; i < f->n_blocks; i++) /* the first collect reports every page */
		memset(f->block[i].dirty, true, f->block[i].size / PAGE);
	*ret = &d->d;
	return fake_end(f, 0);
}

static int copy_roms(struct roms *to, const struct roms *from, struct mc_error *err)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < from->n; i++) {
		uint8_t *data = malloc(from->v[i].size);
		assert(data);
		memcpy(data, from->v[i].data, from->v[i].size);
		r = roms_add(to, from->v[i].id, data, from->v[i].size, err);
	}
	return r;
}

static int read_roms(struct guest *g, struct roms *ret, struct mc_error *err)
{
	struct fake_guest *f = fake_begin(g, FAKE_GUEST_READ_ROMS);
	int r = fake_verdict(f, FAKE_GUEST_READ_ROMS, err);
	return fake_end(f, r < 0 ? r : copy_roms(ret, &f->roms, err));
}

static int write_roms(struct guest *g, const struct roms *roms, struct mc_error *err)
{
	struct fake_guest *f = fake_begin(g, FAKE_GUEST_WRITE_ROMS);
	int r = fake_verdict(f, FAKE_GUEST_WRITE_ROMS, err);
	return fake_end(f, r < 0 ? r : copy_roms(&f->roms, roms, err));
}

static int migratable(struct guest *g, uint64_t timeout_ns, struct mc_error *err)
{
	struct fake_guest *f = fake_begin(g, FAKE_GUEST_MIGRATABLE);
	return fake_end(f, fake_verdict(f, FAKE_GUEST_MIGRATABLE, err));
}

static int inventory(
	struct guest *g, uint64_t timeout_ns, struct guest_inventory *ret, struct mc_error *err)
{
	struct fake_guest *f = fake_begin(g, FAKE_GUEST_INVENTORY);
	int r = fake_verdict(f, FAKE_GUEST_INVENTORY, err);
	if (r == 0)
		*ret = f->inventory;
	return fake_end(f, r);
}

static int set_time(struct guest *g, const char *socket, int64_t tolerance,
	void (*told)(void *ctx, const struct guest_time *what), void *ctx, struct guest_agent **ret,
	struct mc_error *err)
{
	int r = simply(g, FAKE_GUEST_SET_TIME, err);
	if (r == 0) { /* its clock is right, and it says so at once */
		struct guest_time t = {.left = INT64_MIN, .err = MC_ERROR_INIT};
		told(ctx, &t);
	}
	return r;
}

/* --- disks ------------------------------------------------------------------------------------ */

static int disk_size(
	struct guest *g, const char *disk, uint64_t timeout_ns, uint64_t *ret, struct mc_error *err)
{
	return number(g, FAKE_GUEST_DISK_SIZE, &fake_of(g)->disk_size, ret, err);
}

static int disk_flushes(struct guest *g, uint64_t timeout_ns, uint64_t *ret, struct mc_error *err)
{
	return number(g, FAKE_GUEST_DISK_FLUSHES, &fake_of(g)->flushes, ret, err);
}

/* Where that disk's name is, or "" the first place that is free. */
static char *mirrored(struct fake_guest *f, const char *disk)
{
	for (size_t i = 0; i < CONFIG_DISKS_MAX; i++)
		if (!strcmp(f->mirrored[i], disk))
			return f->mirrored[i];
	return NULL;
}

static int mirror_begin(struct guest *g, const char *disk, const char *socket, uint64_t timeout_ns,
	struct mc_error *err)
{
	struct fake_guest *f = fake_begin(g, FAKE_GUEST_MIRROR_BEGIN);
	int r = fake_verdict(f, FAKE_GUEST_MIRROR_BEGIN, err);
	if (done(r) && !mirrored(f, disk))
		snprintf(mirrored(f, ""), sizeof f->mirrored[0], "%s", disk);
	return fake_end(f, r);
}

static int mirror_look(struct guest *g, const char *disk, uint64_t timeout_ns,
	struct guest_mirror *ret, struct mc_error *err)
{
	struct fake_guest *f = fake_begin(g, FAKE_GUEST_MIRROR_LOOK);
	int r = fake_verdict(f, FAKE_GUEST_MIRROR_LOOK, err);
	if (r == 0 && !mirrored(f, disk))
		r = mc_error_set(err, -ENOENT, MC_ECLASS_QMP, "the fake mirror of %s ended", disk);
	if (r == 0)
		*ret = f->mirror;
	return fake_end(f, r);
}

static int mirror_check(
	struct guest *g, const struct config_vm *vm, uint64_t timeout_ns, struct mc_error *err)
{
	struct fake_guest *f = fake_begin(g, FAKE_GUEST_MIRROR_CHECK);
	int r = fake_verdict(f, FAKE_GUEST_MIRROR_CHECK, err);
	for (size_t i = 0; r == 0 && i < vm->n_disks; i++)
		if (!mirrored(f, vm->disks[i].id) || !f->mirror.ready)
			r = mc_error_set(err, -EIO, MC_ECLASS_QMP, "disk %s is not mirrored",
				vm->disks[i].id);
	return fake_end(f, r);
}

static int mirror_end(struct guest *g, const char *disk, uint64_t timeout_ns, struct mc_error *err)
{
	struct fake_guest *f = fake_begin(g, FAKE_GUEST_MIRROR_END);
	int r = fake_verdict(f, FAKE_GUEST_MIRROR_END, err);
	char *at = mirrored(f, disk);
	if (done(r) && at)
		*at = 0;
	return fake_end(f, r);
}

static int mirror_yank(
	struct guest *g, const struct config_vm *vm, uint64_t timeout_ns, struct mc_error *err)
{
	struct fake_guest *f = fake_begin(g, FAKE_GUEST_MIRROR_YANK);
	int r = fake_verdict(f, FAKE_GUEST_MIRROR_YANK, err);
	if (done(r))
		memset(f->mirrored, 0,
			sizeof f->mirrored); /* their connections are cut, and they end */
	return fake_end(f, r);
}

static int export_begin(struct guest *g, const char *disk, const char *socket, uint64_t timeout_ns,
	struct mc_error *err)
{
	return simply(g, FAKE_GUEST_EXPORT_BEGIN, err);
}

static void export_end(struct guest *g, const char *disk, uint64_t timeout_ns)
{
	simply(g, FAKE_GUEST_EXPORT_END, NULL);
}

const struct guest_ops fake_guest_ops = {
	.require = require,
	.ping = ping,
	.pause = pause,
	.cont = cont,
	.stood_still = stood_still,
	.take_reset = take_reset,
	.reset = reset,
	.why_stopped = why_stopped,
	.save_devices = save_devices,
	.activate = activate,
	.stay_stopped = stay_stopped,
	.next_event = next_event,
	.event_back = event_back,
	.shutdown = shut_down,
	.kill = end,
	.free = let_go,
	.open_memory = open_memory,
	.bring_ram = bring_ram,
	.track = track,
	.read_roms = read_roms,
	.write_roms = write_roms,
	.migratable = migratable,
	.inventory = inventory,
	.set_time = set_time,
	.disk_size = disk_size,
	.disk_flushes = disk_flushes,
	.mirror_begin = mirror_begin,
	.mirror_look = mirror_look,
	.mirror_check = mirror_check,
	.mirror_end = mirror_end,
	.mirror_yank = mirror_yank,
	.export_begin = export_begin,
	.export_end = export_end,
};
