/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a guest does by itself: reset, power-off, panic, and the death of its QEMU.
 *
 * A reset is nothing to us: the same QEMU goes on with the same memory.  Power-off is the guest's
 * will and no failure: nobody may take over, but what it said last must still be heard, so its QEMU
 * stays (-no-shutdown) until the checkpoint that covers it is safe.  A panic is what on-panic makes
 * of it.
 */
#include "mcd/vm/guest-events.h"

#include "common/log.h"
#include "mcd/vm/published.h"
#include "mcd/vm/vm.h"
#include "mcd/vm/waits.h"

#define EVENTS_AT_ONCE 16

/* Panicked: QEMU has stopped it.  True: it is to be treated as powered off. */
static bool panicked(struct vm *vm)
{
	struct mc_error err = MC_ERROR_INIT;
	const char *policy = config_panic_names[vm->cfg->on_panic];
	log_warn("%s: the guest panicked; on-panic = %s", vm->name, policy);
	vm_emit(vm, "GUEST_PANICKED", json_pack("{s:s}", "action", policy));
	if (vm->cfg->on_panic == CONFIG_PANIC_STOP)
		return true;
	if (vm->cfg->on_panic == CONFIG_PANIC_HOLD) {
		vm->panicked = true;
		vm_clear_alarm(vm);
		return false;
	}
	int r = guest_reset(vm->guest, WAIT_QMP, &err);
	/* A guest that we stopped is ours to resume: whoever did it counts on it. */
	if (r == 0 && !guest_paused_by_us(vm->guest))
		r = guest_continue(vm->guest, WAIT_QMP, &err);
	if (r < 0 && guest_alive(vm->guest))
		vm_set_alarm(
			vm, "the guest of %s panicked and cannot be reset: %s", vm->name, err.msg);
	return false;
}

enum guest_event vm_guest_events(struct vm *vm)
{
	/* A QEMU that tells without end is heard again the next time. */
	for (int i = 0; i < EVENTS_AT_ONCE; i++) {
		enum guest_event ev = guest_next_event(vm->guest);
		if (ev == GUEST_EVENT_NONE)
			break;
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
