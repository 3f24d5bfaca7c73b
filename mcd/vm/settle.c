/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/vm/settle.h"

#include "mcd/vm/disks.h"
#include "mcd/vm/owner.h"
#include "mcd/vm/published.h"
#include "mcd/vm/vm.h"

/* Until it is noted, a power failure of this host could bring back what the disks were before the
 * guest ran here. */
static int settle_disks(struct vm *vm)
{
	struct mc_error err = MC_ERROR_INIT;
	int r = disks_claim(vm, vm->owes.disks, true, &err);
	if (r < 0)
		vm_set_alarm(vm,
			"%s runs, but this host could not note that its disks here are the newest: "
			"%s. It is tried again every second; do not switch this host off before",
			vm->name, err.msg);
	else
		vm->owes.disks = 0;
	return r;
}

static int settle_word(struct vm *vm)
{
	struct mc_error err = MC_ERROR_INIT;
	int r = netbuf_announce(vm->nb, &err);
	if (r < 0)
		vm_set_alarm(vm,
			"%s runs, but the network could not be told where it is now: %s. It is "
			"tried again every second",
			vm->name, err.msg);
	else
		vm->owes.word = false;
	return r;
}

void vm_settle(struct vm *vm)
{
	if ((!vm->owes.disks && !vm->owes.word) || vm->shut_in || vm_lost(vm))
		return;
	int word = vm->owes.word ? settle_word(vm) : 0;
	int disks = vm->owes.disks ? settle_disks(vm) : 0;
	if (word < 0 || disks < 0) {
		vm->owes.said = true;
	} else if (vm->owes.said) {
		vm->owes.said = false;
		vm_clear_alarm(vm);
	}
}
