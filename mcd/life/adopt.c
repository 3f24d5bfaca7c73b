/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mcd starts, and QEMUs of a former mcd are there.
 *
 * A running VM is taken over closed: nothing it says is heard until this host has asked for
 * ownership anew and won, whatever its own disk remembers, because the record may have moved on
 * while nobody here listened.  A waiting standby QEMU is of no use without the image its mcd held,
 * unless a takeover had begun (standby/restart.c).
 */
#include "common/cleanup.h"
#include "common/clock.h"
#include "mcd/life/life.h"
#include "mcd/primary/ends.h"
#include "mcd/standby/ends.h"
#include "mcd/vm/calls.h"
#include "mcd/vm/kept.h"
#include "mcd/vm/machine.h"
#include "mcd/vm/owner.h"
#include "mcd/vm/takeover-file.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define ANSWER_WAIT (3 * MC_SEC)

/* Everything a started VM has, around the process that is there. */
static int take(struct vm *vm, enum guest_adopted *ret_how, struct mc_error *err)
{
	int taps[CONFIG_NICS_MAX];
	char dir[300];
	vm_run_dir(vm, dir, sizeof dir);
	int r = vm_configure(vm, err);
	if (r == 0)
		r = vm->env->guests->adopt(
			vm->cfg, dir, mc_now() + ANSWER_WAIT, &vm->guest, taps, ret_how, err);
	if (r < 0)
		return r;
	vm_machine_load(vm);
	vm_note_unsaved(vm);
	vm_watch_guest(vm, true);
	r = vm_open_network(vm, taps, err);
	for (size_t i = 0; i < vm->cfg->n_nics; i++)
		close(taps[i]);
	return r;
}

/* Whose is it?  Afterwards it is to be protected as it was, or as it was to be. */
static void settle_ownership(struct vm *vm)
{
	struct own_record rec = vm_newest_record(vm);
	char dir[300];
	bool ours = !strcmp(rec.owner, vm_self(vm));
	vm_set_record(vm, &rec);
	vm_set_state(vm, VM_ROLE_PRIMARY, VM_HOLDING, "taken over from a former mcd");
	vm_set_peer(vm, ours ? rec.standby : "");
	ends_restart(vm);
	if (!vm->guest)
		return;
	/* A takeover that the former mcd had not quite finished; else this is nothing. */
	vm_run_dir(vm, dir, sizeof dir);
	takeover_file_remove(dir);
	vm->owes.disks = vm->cfg->n_disks ? vm->rec.generation : 0;
	if (ours && rec.standby[0])
		vm_want_peer(vm, rec.standby);
	else
		vm_peer_load(vm);
}

/* It is there, and cannot be taken over: somebody has to look, and we try again. */
static void wait_for_help(struct vm *vm, const struct mc_error *err)
{
	vm_set_alarm(vm, "a QEMU of %s is there but cannot be taken over: %s", vm->name, err->msg);
	for (struct vm_call *c; (c = vm_next_call(vm));)
		vm_call_fail(c, err);
	vm_wait(vm, mc_now() + MC_SEC);
	vm_take_pending(vm);
}

void life_adopt(struct vm *vm)
{
	while (!vm->quit) {
		struct mc_error err = MC_ERROR_INIT;
		enum guest_adopted how = GUEST_ADOPTED_RUNNING;
		int r = take(vm, &how, &err);
		if (r == -ENOENT && !err.code) { /* the ordinary case: no QEMU */
			vm_teardown(vm);
			return;
		}
		if (r == 0 && how == GUEST_ADOPTED_WAITING) {
			ends_restart_standby(vm);
			return;
		}
		if (r == 0) {
			/* Stopped: most likely in the middle of an epoch.  Its administrator's stop
			 * cannot be told from the former mcd's; a guest that runs on is the lesser
			 * surprise. */
			settle_ownership(vm);
			return;
		}
		vm_leave_guest(vm); /* the process stays, and the notes about it */
		wait_for_help(vm, &err);
	}
}
