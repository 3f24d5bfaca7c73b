/* SPDX-License-Identifier: GPL-2.0-or-later */
/* While a takeover that was won waits for its next attempt: what others may say to it. */
#include "common/clock.h"
#include "common/log.h"
#include "mcd/standby/refuse.h"
#include "mcd/standby/takeover.h"
#include "mcd/vm/calls.h"
#include "mcd/vm/ends.h"
#include "mcd/vm/machine.h"
#include "mcd/vm/mailbox.h"
#include "mcd/vm/owner.h"

#include <errno.h>

static void refuse_offer(struct vm *vm)
{
	struct mc_error err = MC_ERROR_INIT;
	struct link_peer peer;
	int fd = vm_take_offer(vm, &peer);
	if (fd < 0)
		return;
	mc_error_set(&err, -EBUSY, MC_ECLASS_STATE, "%s is being taken over by %s", vm->name,
		vm_self(vm));
	standby_refuse(fd, &peer, &err);
}

static void refuse_stop(struct vm *vm, struct vm_call *c)
{
	struct mc_error err = MC_ERROR_INIT;
	mc_error_set(&err, -EBUSY, MC_ECLASS_STATE,
		"cannot stop %s: it is being taken over, and what is here is its only copy. To "
		"give that up, so that it can only be started afresh%s: mcctl stop %s --force",
		vm->name, vm->cfg && vm->cfg->n_disks ? " from its disks" : "", vm->name);
	vm_call_fail(c, &err);
}

/* True: the operator said what ends the rest.  *ret_given_up: and the takeover. */
static bool serve(struct vm *vm, bool *ret_given_up)
{
	for (struct vm_call *c; (c = vm_next_call(vm));) {
		if (c->verb == VM_TAKEOVER) {
			vm_call_ok(c, json_pack("{s:s}", "state", "trying again"));
			return true;
		}
		if (c->verb == VM_STOP && c->force) {
			log_warn("%s: its takeover is given up, at the administrator's word",
				vm->name);
			vm_stopped(vm, "its takeover was given up by the administrator");
			vm_call_ok(c, NULL);
			*ret_given_up = true;
			return true;
		}
		if (c->verb == VM_STOP)
			refuse_stop(vm, c);
		else
			vm_call_wrong_state(vm, c);
	}
	return false;
}

bool takeover_rest(struct vm *vm, uint64_t ns)
{
	uint64_t until = mc_now() + ns;
	bool given_up = false;
	/* The end of a dead one would wake us without end; the next one is watched anew. */
	if (vm->guest && !guest_alive(vm->guest))
		vm_watch_guest(vm, false);
	for (;;) {
		vm_take_pending(vm);
		bool said = serve(vm, &given_up);
		if (given_up || vm->quit)
			return false;
		/* Only an operator's word elsewhere can have done that. */
		if (vm_lost(vm)) {
			vm_gone(vm, "%s owns it by a newer record", vm_newest_record(vm).owner);
			return false;
		}
		refuse_offer(vm);
		if (said || mc_now() >= until)
			return true;
		vm_wait(vm, until);
	}
}
