/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/standby/waiting.h"

#include "common/log.h"
#include "mcd/vm/machine.h"
#include "mcd/vm/waits.h"

int waiting_start(struct vm *vm, const struct roms *roms, struct mc_error *err)
{
	int r = vm_launch(vm, true, WAIT_LAUNCH, err);
	if (r == 0)
		r = guest_require(vm->guest, err);
	if (r == 0 && roms->n)
		r = guest_write_roms(vm->guest, roms, err);
	if (r < 0)
		vm_end_guest(vm); /* or half of one would count as one that waits */
	return r;
}

int waiting_launch(struct standby *s, struct mc_error *err)
{
	int r = waiting_start(s->vm, &s->roms, err);
	s->has_roms = r == 0 && s->roms.n;
	return r;
}

int waiting_put_roms(struct standby *s, struct mc_error *err)
{
	if (s->has_roms)
		return 0;
	int r = guest_write_roms(s->vm->guest, &s->roms, err);
	s->has_roms = r == 0;
	return r;
}

void waiting_relaunch(struct standby *s)
{
	struct vm *vm = s->vm;
	struct mc_error err = MC_ERROR_INIT;
	log_warn("%s: the waiting QEMU ended; starting another (the memory is ours and stays)",
		vm->name);
	vm_end_guest(vm);
	if (waiting_launch(s, &err) < 0)
		vm_set_alarm(vm, "the waiting QEMU of %s ended and cannot be started again: %s",
			vm->name, err.msg);
	else
		vm_clear_alarm(vm);
}
