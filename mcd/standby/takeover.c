/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Takeover: from a won vote to a running guest.
 *
 *   WON       this host is sole owner; nobody else can ever show this VM's generation
 *   FINISH    what is committed is applied (epoch.c never returns before), what is not is dropped
 *   OPEN      the network passes and learns where the VM's addresses are now
 *   ACTIVATE  QEMU loads the device state of the committed epoch and runs
 */
#include "mcd/standby/takeover.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/failpoint.h"
#include "mcd/standby/waiting.h"
#include "mcd/vm/guest-clock.h"
#include "mcd/vm/kept.h"
#include "mcd/vm/machine.h"
#include "mcd/vm/takeover-file.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#define ACTIVATE_WAIT (10 * MC_SEC)

static int won(struct standby *s, struct mc_error *err)
{
	/* failover/README.md 13: only {self, none}, and no ACK can follow (12). */
	assert(!strcmp(s->vm->rec.owner, vm_self(s->vm)) && !s->vm->rec.standby[0] && !s->link);
	return 0;
}

static int finish(struct standby *s, struct mc_error *err)
{
	/* Invariant 3: nothing half applied, and something to go on from. */
	assert(!s->staged && s->committed && s->applied == s->committed && s->devices);
	takeover_keep(s, s->vm->rec.generation);
	if (!s->disks)
		return 0;
	return replica_take(s->disks, s->vm->rec.generation, err);
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
	if (takeover_file_save(dir, &t, &err) < 0)
		log_warn("%s: %s", s->vm->name, err.msg);
	else
		s->kept = generation;
}

/* Before ACTIVATE: the guest's first frames must not meet a closed door, and the announcement sends
 * the clients' retransmissions here while the device state still loads. */
static int open_network(struct standby *s, struct mc_error *err)
{
	int r = netbuf_pass(s->vm->nb, err);
	return r < 0 ? r : netbuf_announce(s->vm->nb, err);
}

int takeover_activate(struct vm *vm, const uint8_t *devices, size_t len, enum wire_guest state,
	uint64_t *ret_loaded, struct mc_error *err)
{
	int r = 0;
	if (state != WIRE_GUEST_RUNS)
		r = guest_stay_stopped(vm->guest, ACTIVATE_WAIT, err);
	if (r == 0)
		r = guest_activate(vm->guest, devices, len, ACTIVATE_WAIT, ret_loaded, err);
	if (r < 0 || state == WIRE_GUEST_RUNS)
		return r;
	log_notice("%s: the guest stands here as it did there: %s", vm->name,
		state == WIRE_GUEST_OFF        ? "it has powered off"
		: state == WIRE_GUEST_PANICKED ? "it panicked"
					       : "its administrator stopped it");
	/* What follows from it is done by whoever listens to the guest next. */
	if (state != WIRE_GUEST_STOPPED)
		guest_event_back(vm->guest,
			state == WIRE_GUEST_OFF ? GUEST_EVENT_SHUTDOWN : GUEST_EVENT_PANICKED);
	return 0;
}

static int activate_once(struct standby *s, struct mc_error *err)
{
	struct vm *vm = s->vm;
	uint64_t loaded = 0;
	if (!vm->guest || !guest_alive(vm->guest)) {
		int r = waiting_launch(s, err);
		if (r < 0)
			return r;
	}
	int r = takeover_activate(vm, s->devices, s->devices_len, s->guest_state, &loaded, err);
	if (r == 0)
		vm_emit(vm, "DEVICES_LOADED",
			json_pack("{s:I, s:I}", "epoch", (json_int_t)s->committed, "at",
				(json_int_t)loaded));
	return r;
}

static int activate(struct standby *s, struct mc_error *err)
{
	struct vm *vm = s->vm;
	int r = activate_once(s, err);
	if (r < 0 && vm->guest && !guest_alive(vm->guest)) {
		/* QEMU died before the guest ran: the image is untouched, a fresh QEMU may do
		 * better. */
		log_error("%s: %s; trying once more", vm->name, err->msg);
		vm_end_guest(vm);
		r = activate_once(s, err);
	}
	return r;
}

int takeover_run(struct standby *s, struct mc_error *err)
{
	static const struct {
		const char *name;
		int (*run)(struct standby *s, struct mc_error *err);
	} steps[] = {
		{"WON", won},
		{"FINISH", finish},
		{"OPEN", open_network},
		{"ACTIVATE", activate},
	};
	struct vm *vm = s->vm;
	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
		failpoint(steps[i].name);
		int r = steps[i].run(s, err);
		if (r < 0)
			return r;
	}
	char dir[300];
	vm_run_dir(vm, dir, sizeof dir);
	takeover_file_remove(dir);
	vm_clear_alarm(vm);
	vm_want_peer(vm, s->primary);
	vm_emit(vm, "RUNNING",
		json_pack("{s:I, s:I}", "epoch", (json_int_t)s->committed, "generation",
			(json_int_t)vm->rec.generation));
	vm_set_state(vm, VM_ROLE_PRIMARY, VM_UNPROTECTED, "took over from %s at epoch %" PRIu64,
		s->primary, s->committed);
	if (s->guest_state == WIRE_GUEST_RUNS)
		vm_clock_set(vm);
	return 0;
}
