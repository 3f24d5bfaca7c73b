/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A VM's thread: idle, unprotected, and from there into the roles. */
#include "mcd/life/life.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "mcd/primary/protect.h"
#include "mcd/standby/refuse.h"
#include "mcd/standby/standby.h"
#include "mcd/vm/calls.h"
#include "mcd/vm/ends.h"
#include "mcd/vm/guest-events.h"
#include "mcd/vm/kept.h"
#include "mcd/vm/machine.h"
#include "mcd/vm/owner.h"
#include "mcd/vm/published.h"
#include "mcd/vm/settle.h"
#include "mcd/vm/vm.h"

#include <errno.h>
#include <string.h>

/* How often it is tried to protect the VM again. */
struct again {
	unsigned wanted; /* vm->wanted when this began */
	uint64_t at, pause;
};

static void refuse_offer(struct vm *vm)
{
	struct mc_error err = MC_ERROR_INIT;
	struct link_peer peer;
	int fd = vm_take_offer(vm, &peer);
	if (fd < 0)
		return;
	mc_error_set(&err, -EBUSY, MC_ECLASS_STATE,
		"%s runs here on %s itself; it cannot be a standby for %s", vm->name, vm_self(vm),
		peer.name);
	standby_refuse(fd, &peer, &err);
}

/* The other host is back: protection returns by itself.  A failure is logged, not alarmed, and
 * tried again ever less often: the VM runs, and the administrator sees "unprotected". */
static void reprotect(struct vm *vm, struct again *a)
{
	if (a->wanted != vm->wanted)
		*a = (struct again){.wanted = vm->wanted, .pause = MC_SEC};
	if (!vm->want_peer[0] || !vm->env->cfg->reprotect_auto || mc_now() < a->at ||
		env_suspected(vm->env, vm->want_peer))
		return;
	struct vm_call *c = calloc(1, sizeof *c);
	if (!c)
		return;
	c->verb = VM_PROTECT;
	memcpy(c->peer, vm->want_peer, sizeof c->peer);
	c->delay = vm->delay;
	c->max_buffer = vm->max_buffer;
	uint64_t began = mc_now(), at = protect_run(vm, c), now = mc_now();
	/* A peer with which it never lasts is not asked in a loop.  A protection that lasted longer
	 * than it took to come about was worth it, and the count begins anew: else the protection
	 * after a few faults in a row would be long in coming. */
	bool lasted = at && now - at > MC_SEC && now - at > at - began;
	if (lasted)
		a->pause = MC_SEC;
	a->at = now + a->pause;
	if (!lasted && a->pause < 30 * MC_SEC)
		a->pause *= 2;
	a->wanted = vm->wanted; /* protect_run says it, too */
}

static void serve(struct vm *vm, struct vm_call *c)
{
	switch (c->verb) {
	case VM_STOP:
		life_stop(vm, c);
		return;
	case VM_PROTECT:
		protect_run(vm, c);
		return;
	case VM_SET:
		vm_call_set(vm, c);
		return;
	case VM_UNPROTECT:
		if (!vm->want_peer[0])
			break;
		vm_want_peer(vm, "");
		vm_clear_alarm(vm);
		vm_call_ok(c, NULL);
		return;
	default:
		break;
	}
	vm_call_wrong_state(vm, c);
}

static void unprotected(struct vm *vm, struct again *a)
{
	struct vm_call *c = vm_next_call(vm);
	if (c) {
		serve(vm, c);
		return;
	}
	refuse_offer(vm);
	vm_wait(vm, mc_now() + (vm->want_peer[0] ? 200 * MC_MSEC : MC_SEC));
	vm_take_pending(vm);
	vm_resume(vm);
	vm_open(vm);
	vm_settle(vm);
	if (!vm->shut_in)
		reprotect(vm, a);
	if (!vm->guest)
		return;
	enum guest_event ev = vm_guest_events(vm);
	if (ev != GUEST_EVENT_NONE)
		vm_guest_ended(vm, ev);
	/* Cannot happen while this host is sole owner; if it does, the record is right. */
	if (vm->guest && vm_lost(vm))
		vm_gone(vm, "%s owns it by a newer record", vm_newest_record(vm).owner);
}

static void idle(struct vm *vm)
{
	struct vm_call *c = vm_next_call(vm);
	if (c && c->verb == VM_START) {
		struct mc_error err = MC_ERROR_INIT;
		if (life_start(vm, c->force, &err) < 0)
			vm_call_fail(c, &err);
		else
			vm_call_ok(c,
				json_pack("{s:I}", "generation", (json_int_t)vm->rec.generation));
		return;
	}
	if (c) {
		vm_call_wrong_state(vm, c);
		return;
	}
	struct link_peer peer;
	int fd = vm_take_offer(vm, &peer);
	if (fd >= 0) {
		standby_run(vm, fd, &peer);
		return;
	}
	struct own_record newest = vm_newest_record(vm);
	vm_set_record(vm, &newest);
	vm_wait(vm, mc_now() + 3600 * MC_SEC);
	vm_take_pending(vm);
}

void *life_run(void *arg)
{
	struct vm *vm = arg;
	struct again again = {.wanted = vm->wanted - 1};
	life_adopt(vm);
	while (!vm->quit)
		if (vm->guest)
			unprotected(vm, &again);
		else
			idle(vm);
	if (vm->guest) {
		/* mcd ends, the VM does not: it must not stay stopped, and nobody hears what it
		 * says. */
		guest_resume(vm->guest, MC_SEC, NULL);
		log_notice("%s: QEMU (pid %d) goes on without mcd", vm->name,
			(int)guest_pid(vm->guest));
		vm_leave_guest(vm);
	} else {
		vm_teardown(vm);
	}
	return NULL;
}
