/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Takeover: from a won vote to a running guest.
 *
 *   WON       this host is sole owner; nobody else can ever show this VM's generation
 *   FINISH    what is committed is applied (epoch.c never returns before), what is not is dropped
 *   WAIT      a QEMU waits that has not seen any of the state; if not, another takes its place
 *   OPEN      the network passes and learns where the VM's addresses are now
 *   ACTIVATE  QEMU loads the device state of the committed epoch, and then it runs
 *
 * From WON on the image here is the only one.  So no error ends this: each step can be done again,
 * and is, every second, until the guest runs or the operator gives it up (takeover-rest.c).  What
 * the guest does not need in order to run is left for later (vm/settle.h).
 *
 * QEMU loads the state standing, and is told to run once it has all of it.  Before that it can be
 * replaced at any moment, for the guest has done nothing, and its memory is ours.
 */
#include "mcd/standby/takeover.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "common/log.h"
#include "mcd/standby/waiting.h"
#include "mcd/vm/disks.h"
#include "mcd/vm/ends.h"
#include "mcd/vm/guest-clock.h"
#include "mcd/vm/kept.h"
#include "mcd/vm/machine.h"
#include "mcd/vm/owner.h"
#include "mcd/vm/settle.h"
#include "mcd/vm/takeover-file.h"
#include "mcd/vm/waits.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define ACTIVATE_WAIT (10 * MC_SEC) /* doubled whenever it was too short */
#define SLOW_MAX      4
#define RETRY         MC_SEC

static int won(struct takeover *t, struct mc_error *err)
{
	const struct own_record *rec = &t->vm->rec;
	/* failover/README.md 13: only {self, none}, and no ACK can follow (12). */
	assert(!strcmp(rec->owner, vm_self(t->vm)) && !rec->standby[0]);
	assert(!t->s || !t->s->link);
	return 0;
}

void takeover_keep(struct standby *s, uint64_t generation)
{
	struct takeover_state t = {
		.generation = generation,
		.epoch = s->committed,
		.guest_state = s->guest_state,
		.devices = s->devices,
		.len = s->devices_len,
	};
	memcpy(t.primary, s->primary, sizeof t.primary);
	struct mc_error err = MC_ERROR_INIT;
	char dir[300];
	if (s->kept == generation)
		return;
	vm_run_dir(s->vm, dir, sizeof dir);
	/* Without the file the takeover is as good, unless mcd dies in the middle of it. */
	if (takeover_file_save(dir, &t, &s->room, &err) < 0)
		log_warn("%s: %s", s->vm->name, err.msg);
	else
		s->kept = generation;
}

/* The guest can run without it, but a power failure of this host should not come before. */
static void own_disks(struct takeover *t)
{
	struct vm *vm = t->vm;
	struct mc_error err = MC_ERROR_INIT;
	int r = t->s ? replica_own(t->s->disks, vm->rec.generation, &err)
		     : disks_claim(vm, vm->rec.generation, true, &err);
	if (r < 0)
		log_error(
			"%s: %s; the takeover goes on, and this is done later", vm->name, err.msg);
	vm->owes.disks = r < 0 ? vm->rec.generation : 0;
}

static int finish(struct takeover *t, struct mc_error *err)
{
	struct standby *s = t->s;
	if (s) { /* Invariant 3: nothing half applied, and something to go on from. */
		assert(!s->staged && s->committed && s->applied == s->committed && s->devices);
		takeover_keep(s, t->vm->rec.generation);
	}
	if (!t->vm->cfg->n_disks || t->taken)
		return 0;
	int r = s ? replica_take(s->disks, err) : 0;
	if (r < 0)
		return r;
	t->taken = true;
	own_disks(t);
	return 0;
}

/* --- a QEMU that waits ------------------------------------------------------------------------ */

static bool alive(const struct vm *vm)
{
	return vm->guest && guest_alive(vm->guest);
}

static bool has_memory(const struct vm *vm)
{
	for (size_t i = 0; i < vm->plan.n_ram; i++)
		if (vm->ram_fds[i] < 0)
			return false;
	return true;
}

int takeover_bring(struct takeover *t, struct mc_error *err)
{
	struct vm *vm = t->vm;
	struct roms roms = {0};
	if (has_memory(vm))
		return 0;
	/* The firmware first: with the memory there it counts as complete. */
	int r = guest_read_roms(vm->guest, &roms, err);
	if (r == 0)
		r = guest_bring_ram(vm->guest, &vm->plan, vm->ram_fds, err);
	if (r < 0) {
		roms_clear(&roms);
		return r;
	}
	roms_clear(t->roms);
	*t->roms = roms;
	return 0;
}

static int wait(struct takeover *t, struct mc_error *err)
{
	struct vm *vm = t->vm;
	if (alive(vm) && !t->spoilt)
		return 0;
	int r = takeover_bring(t, err);
	if (r < 0)
		return r;
	log_warn("%s: the QEMU that waited %s; another takes its place (the memory is ours and "
		 "stays)",
		vm->name, alive(vm) ? "did not take the state" : "ended");
	/* Whatever came for it goes to nobody. */
	netbuf_shut(vm->nb, NULL);
	vm_end_guest(vm);
	t->loaded = t->told = t->silent = t->spoilt = false;
	return waiting_start(vm, t->roms, err);
}

/* Before ACTIVATE: the guest's first frames must not meet a closed door, and the announcement sends
 * the clients' retransmissions here while the device state still loads. */
static int open_network(struct takeover *t, struct mc_error *err)
{
	struct vm *vm = t->vm;
	struct mc_error later = MC_ERROR_INIT;
	int r = netbuf_pass(vm->nb, err);
	if (r < 0)
		return r;
	vm->owes.word = netbuf_announce(vm->nb, &later) < 0;
	if (vm->owes.word)
		log_error("%s: %s; the takeover goes on, and this is done later", vm->name,
			later.msg);
	return 0;
}

/* --- ACTIVATE --------------------------------------------------------------------------------- */

static int load(struct takeover *t, struct mc_error *err)
{
	struct vm *vm = t->vm;
	uint64_t at = 0;
	int r = guest_stay_stopped(vm->guest, ACTIVATE_WAIT, err);
	if (r == 0)
		r = guest_activate(
			vm->guest, t->devices, t->devices_len, ACTIVATE_WAIT << t->slow, &at, err);
	if (r < 0) {
		t->spoilt = true;
		t->slow += r == -ETIMEDOUT && t->slow < SLOW_MAX;
		return r;
	}
	t->loaded = true;
	vm_emit(vm, "DEVICES_LOADED",
		json_pack("{s:I, s:I}", "epoch", (json_int_t)t->epoch, "at", (json_int_t)at));
	return 0;
}

/* The guest stands here as it did there.  What follows from it is done by whoever listens to the
 * guest next. */
static void stand(const struct takeover *t)
{
	enum wire_guest state = t->guest_state;
	log_notice("%s: the guest stands here as it did there: %s", t->vm->name,
		state == WIRE_GUEST_OFF        ? "it has powered off"
		: state == WIRE_GUEST_PANICKED ? "it panicked"
					       : "its administrator stopped it");
	if (state != WIRE_GUEST_STOPPED)
		guest_event_back(t->vm->guest,
			state == WIRE_GUEST_OFF ? GUEST_EVENT_SHUTDOWN : GUEST_EVENT_PANICKED);
}

/* An earlier command to run may have been heard all the same. */
static int does_it_run(struct takeover *t, bool *ret, struct mc_error *err)
{
	struct guest *g = t->vm->guest;
	enum guest_event why = GUEST_EVENT_STOPPED;
	int r = guest_ping(g, WAIT_PING, err);
	if (r == 0)
		r = guest_why_stopped(g, WAIT_QMP, &why, err);
	if (r == 0 && (why == GUEST_EVENT_SHUTDOWN || why == GUEST_EVENT_PANICKED))
		guest_event_back(g, why); /* it ran, and has ended since */
	*ret = r == 0 && why != GUEST_EVENT_STOPPED;
	return r;
}

static int activate(struct takeover *t, struct mc_error *err)
{
	struct vm *vm = t->vm;
	bool runs = false;
	int r = t->loaded ? 0 : load(t, err);
	if (r < 0)
		return r;
	if (t->guest_state != WIRE_GUEST_RUNS) {
		stand(t);
		return 0;
	}
	if (t->told)
		r = does_it_run(t, &runs, err);
	if (r < 0 || runs)
		return r;
	r = guest_continue(vm->guest, ACTIVATE_WAIT, err);
	t->told |= r < 0;
	t->silent |= r == -ETIMEDOUT;
	return r;
}

/* --- again and again -------------------------------------------------------------------------- */

static int attempt(struct takeover *t, struct mc_error *err)
{
	static const struct {
		const char *name;
		int (*run)(struct takeover *t, struct mc_error *err);
	} steps[] = {
		{"WON", won},
		{"FINISH", finish},
		{"WAIT", wait},
		{"OPEN", open_network},
		{"ACTIVATE", activate},
	};
	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
		failpoint(steps[i].name);
		int r = steps[i].run(t, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static void done(struct takeover *t)
{
	struct vm *vm = t->vm;
	struct mc_error disk = MC_ERROR_INIT;
	char dir[300];
	vm_run_dir(vm, dir, sizeof dir);
	takeover_file_remove(dir);
	vm_clear_alarm(vm);
	if (config_find_host(vm->env->cfg, t->primary))
		vm_want_peer(vm, t->primary);
	vm_emit(vm, "RUNNING",
		json_pack("{s:I, s:I}", "epoch", (json_int_t)t->epoch, "generation",
			(json_int_t)vm->rec.generation));
	vm_set_state(vm, VM_ROLE_PRIMARY, VM_UNPROTECTED, "%s %s at epoch %" PRIu64,
		t->s ? "took over from" : "finished a former mcd's takeover from", t->primary,
		t->epoch);
	if (t->guest_state == WIRE_GUEST_RUNS)
		vm_clock_set(vm);
	if (t->s && t->s->disks && replica_disk_failed(t->s->disks, &disk) < 0)
		vm_set_alarm(vm,
			"%s runs on disks that failed here before it was taken over; check its "
			"file systems: %s",
			vm->name, disk.msg);
	vm_settle(vm);
}

/* QEMU says that it resumes before it does, and what it said is read also when it is dead. */
static bool has_run(struct takeover *t)
{
	struct guest *g = t->vm->guest;
	bool resumed = t->silent;
	for (enum guest_event ev; (ev = guest_next_event(g)) != GUEST_EVENT_NONE;) {
		resumed |= ev == GUEST_EVENT_RESUMED;
		if (ev == GUEST_EVENT_GONE)
			break;
	}
	return resumed;
}

/* There is nothing any more to go on from. */
static bool is_over(struct takeover *t)
{
	struct vm *vm = t->vm;
	if (alive(vm))
		return false;
	/* What it has shown is not shown again from before. */
	bool ran = vm->guest && t->loaded && t->told && has_run(t);
	if (!ran && has_memory(vm))
		return false;
	vm_guest_ended(vm, GUEST_EVENT_GONE);
	return true;
}

void takeover_run(struct takeover *t)
{
	struct vm *vm = t->vm;
	for (;; t->tries++) {
		struct mc_error err = MC_ERROR_INIT;
		if (attempt(t, &err) == 0) {
			done(t);
			return;
		}
		if (is_over(t))
			return;
		vm_set_alarm(vm,
			"%s was won from %s and does not run yet (its copy is kept, and it is "
			"tried again every second; at once: mcctl takeover %s): %s",
			vm->name, t->primary, vm->name, err.msg);
		if (takeover_rest(vm, t->tries ? RETRY : 0))
			continue;
		/* mcd ends: only a QEMU can hold the memory for the next one. */
		if (vm->quit && !alive(vm) && wait(t, &err) < 0)
			log_error("%s: its copy ends with mcd: %s", vm->name, err.msg);
		return;
	}
}
