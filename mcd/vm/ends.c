/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/vm/ends.h"

#include "common/clock.h"
#include "common/log.h"
#include "mcd/vm/machine.h"
#include "mcd/vm/owner.h"
#include "mcd/vm/published.h"
#include "mcd/vm/vm.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

void vm_gone(struct vm *vm, const char *fmt, ...)
{
	char why[200];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(why, sizeof why, fmt, ap);
	va_end(ap);
	vm_teardown(vm);
	struct own_record new = vm_newest_record(vm);
	vm_set_record(vm, &new);
	vm_clear_alarm(vm);
	vm_emit(vm, "DISCARDED", json_pack("{s:s}", "reason", why));
	vm_set_state(vm, VM_ROLE_NONE, VM_STOPPED, "%s", why);
}

void vm_give_up_record(struct vm *vm)
{
	struct mc_error err = MC_ERROR_INIT;
	int r = vm_propose(vm, "", "", MC_SEC, &err);
	if (r < 0 && r != -ESTALE)
		log_warn(
			"%s: stopped, but its record still names this host: %s", vm->name, err.msg);
}

void vm_stopped(struct vm *vm, const char *why)
{
	/* The newest disks are here: no other host may start it from older ones. */
	bool keep = vm->cfg && vm->cfg->n_disks;
	vm_teardown(vm);
	if (!keep)
		vm_give_up_record(vm);
	vm_clear_alarm(vm);
	vm_set_state(vm, VM_ROLE_NONE, VM_STOPPED, "%s", why);
}

void vm_guest_ended(struct vm *vm, enum guest_event ev)
{
	if (ev == GUEST_EVENT_SHUTDOWN) {
		netbuf_pass(vm->nb, NULL); /* what it said last may still be in the tap */
		vm_stopped(vm, "the guest powered off");
		return;
	}
	vm_teardown(vm);
	vm_set_alarm(vm,
		"QEMU of %s ended by itself while it was not protected; see qemu.log, then 'mcctl "
		"start %s'",
		vm->name, vm->name);
	vm_set_state(vm, VM_ROLE_NONE, VM_FAILED, "QEMU ended by itself");
}
