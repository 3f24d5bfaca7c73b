/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a guest does by itself: reset, power-off, panic, and the death of its QEMU.
 *
 * A reset is nothing to us: the same QEMU goes on with the same memory.  Power-off is the guest's
 * will and no failure: nobody may take over, but what it said last must still be heard, so its QEMU
 * stays (-no-shutdown) until the checkpoint that covers it is safe.  A panic is what on-panic makes
 * of it.
 */
#include "common/clock.h"
#include "common/log.h"
#include "mcd/daemon.h"
#include "mcd/vm/life.h"

#include <errno.h>
#include <string.h>

#define COMMAND_WAIT (5 * MC_SEC)
#define ASK_FOR      (500 * MC_MSEC)

/* Panicked: QEMU has stopped it.  True: it is to be treated as powered off. */
static bool panicked(struct vm *vm)
{
	struct mc_error err = MC_ERROR_INIT;
	const char *policy = vm->cfg->on_panic;
	log_warn("%s: the guest panicked; on-panic = %s", vm->name, policy);
	vm_emit(vm, "GUEST_PANICKED", json_pack("{s:s}", "action", policy));
	if (!strcmp(policy, "stop"))
		return true;
	if (!strcmp(policy, "hold")) {
		vm->panicked = true;
		vm_clear_alarm(vm);
		return false;
	}
	int r = guest_reset(vm->guest, COMMAND_WAIT, &err);
	/* A guest that we stopped is ours to resume: whoever did it counts on it. */
	if (r == 0 && !guest_paused_by_us(vm->guest))
		r = guest_continue(vm->guest, COMMAND_WAIT, &err);
	if (r < 0 && guest_alive(vm->guest))
		vm_set_alarm(vm, "the guest of %s panicked and cannot be reset: %s", vm->name, err.msg);
	return false;
}

enum guest_event vm_guest_events(struct vm *vm)
{
	enum guest_event ev;
	while ((ev = guest_next_event(vm->guest)) != GUEST_EVENT_NONE) {
		if (ev == GUEST_EVENT_PANICKED && panicked(vm))
			ev = GUEST_EVENT_SHUTDOWN;
		if (vm->panicked && (ev == GUEST_EVENT_RESET || ev == GUEST_EVENT_RESUMED)) {
			vm->panicked = false; /* its administrator has seen it */
			vm_clear_alarm(vm);
		}
		if (ev == GUEST_EVENT_RESET) {
			log_notice("%s: the guest was reset", vm->name);
			vm_emit(vm, "GUEST_RESET", NULL);
		}
		if (ev == GUEST_EVENT_GONE || ev == GUEST_EVENT_SHUTDOWN)
			return ev;
	}
	return GUEST_EVENT_NONE;
}

void vm_life_powered_off(struct vm *vm)
{
	struct mc_error err = MC_ERROR_INIT;
	vm_watch_guest(vm, false); /* should QEMU go too, no wait below ends early for it */
	vm_set_state(vm, VM_ROLE_PRIMARY, VM_HOLDING, "the guest powered off; giving up ownership");
	for (;;) {
		int r = vm_propose(vm, "", "", ASK_FOR, &err);
		if (r == 0)
			break;
		struct own_record new = vm_newest_record(vm);
		if (r == -ESTALE && strcmp(new.owner, vm->d->cfg.name)) {
			vm_life_gone(vm, "%s owns it now (generation %llu)",
				new.owner[0] ? new.owner : "nobody",
				(unsigned long long)new.generation);
			return;
		}
		if (r == -ESTALE) { /* an earlier proposal of our own got through: go on from it */
			vm_set_record(vm, &new);
			continue;
		}
		vm_set_alarm(vm,
			"the guest of %s powered off, but no majority of the voters takes note of "
			"it: %s",
			vm->name, err.msg);
		vm_take_pending(vm);
		if (vm->quit)
			return;
		for (struct vm_call *c; (c = vm_next_call(vm));)
			vm_call_wrong_state(vm, c);
		vm_wait(vm, mc_now() + 100 * MC_MSEC);
	}
	vm_teardown(vm);
	vm_clear_alarm(vm);
	vm_set_state(vm, VM_ROLE_NONE, VM_STOPPED, "the guest powered off");
}
