/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Starting a VM, and stopping one that is not protected. */
#include "common/clock.h"
#include "common/log.h"
#include "mcd/life/life.h"
#include "mcd/vm/calls.h"
#include "mcd/vm/disks.h"
#include "mcd/vm/ends.h"
#include "mcd/vm/machine.h"
#include "mcd/vm/owner.h"
#include "mcd/vm/published.h"
#include "mcd/vm/timing.h"
#include "mcd/vm/waits.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define LISTEN_WAIT   MC_SEC /* for a host that is believed lost to be heard after all */
#define START_VOTE    (1500 * MC_MSEC)
#define SHUTDOWN_WAIT (60 * MC_SEC) /* for the guest to power off when asked to */

/* A host that was never heard is not suspected: it may be that this mcd has only just begun to
 * listen. */
static bool nobody_hears(struct vm *vm, const char *host)
{
	struct timing t;
	uint64_t deadline = mc_now() + LISTEN_WAIT;
	vm_timing(vm->env->cfg, vm->delay, &t);
	while (!vm->quit && mc_now() < deadline) {
		if (env_heard_age(vm->env, host) < t.suspect_after ||
			env_ask_heard(vm->env, host, mc_now() + t.ask_heard) < t.suspect_after)
			return false;
		vm_wait(vm, mc_now() + 100 * MC_MSEC);
		vm_take_pending(vm);
	}
	return true;
}

/* Who may start it: nobody owns it, or we do and nobody holds a copy that could be newer than a
 * fresh boot. */
static int may_start(struct vm *vm, bool force, struct mc_error *err)
{
	struct own_record rec;
	const char *self = vm_self(vm);
	int r = vm_look(vm, MC_SEC, &rec, err);
	if (r < 0)
		return r;
	rec = vm_newest_record(vm);
	vm_set_record(vm, &rec);
	/* Its owner is lost for good, and so is the image that this host had in memory; what the
	 * replica holds is as good as after a power failure.  As the named standby it may ask for
	 * the record. */
	if (force && rec.owner[0] && strcmp(rec.owner, self) && !strcmp(rec.standby, self) &&
		nobody_hears(vm, rec.owner))
		return 0;
	if (rec.owner[0] && strcmp(rec.owner, self) && !strcmp(rec.standby, self))
		return mc_error_set(err, -EBUSY, MC_ECLASS_NOT_OWNER,
			"%s belongs to host %s (generation %llu), and this is its standby: start "
			"it there. Only if that host, which must be off, and its disks are lost "
			"for good: mcctl start %s --force",
			vm->name, rec.owner, (unsigned long long)rec.generation, vm->name);
	if (rec.owner[0] && strcmp(rec.owner, self))
		return mc_error_set(err, -EBUSY, MC_ECLASS_NOT_OWNER,
			"%s belongs to host %s (generation %llu): start it there, or stop it there "
			"first",
			vm->name, rec.owner, (unsigned long long)rec.generation);
	if (rec.standby[0] && !force)
		return mc_error_set(err, -EBUSY, MC_ECLASS_STATE,
			"%s holds a protected copy of %s that a fresh start would throw away; let "
			"it take over, or start with --force",
			rec.standby, vm->name);
	return 0;
}

/* After the vote was won.  *ret_ran: the guest may have, and have written to its disks. */
static int run(struct vm *vm, bool *ret_ran, struct mc_error *err)
{
	int r;
	*ret_ran = false;
	if ((r = disks_claim(vm, vm->rec.generation, false, err)) < 0)
		return r;
	r = vm_launch(vm, false, WAIT_LAUNCH, err);
	*ret_ran = vm->guest || r == -ETIMEDOUT;
	if (r < 0 || (r = netbuf_pass(vm->nb, err)) < 0)
		return r;
	/* It may have run on another host: the switches still send its frames there, and a guest
	 * with a fixed address says nothing before it is spoken to. */
	return netbuf_announce(vm->nb, err);
}

int life_start(struct vm *vm, bool force, struct mc_error *err)
{
	int r = may_start(vm, force, err);
	if (r == 0)
		r = vm_prepare(vm, err);
	if (r < 0)
		return r;
	bool nobodys = !vm->rec.owner[0], disks = vm->cfg->n_disks;
	r = disks_may_start(vm, !strcmp(vm->rec.owner, vm_self(vm)), force, err);
	if (r < 0) {
		vm_teardown(vm);
		return r;
	}
	vm_set_state(vm, VM_ROLE_NONE, VM_STARTING, "asking for ownership");
	/* The record first: a VM that runs without one could run twice. */
	r = vm_propose(vm, vm_self(vm), "", START_VOTE, err);
	if (r < 0) {
		vm_teardown(vm);
		vm_set_state(vm, VM_ROLE_NONE, VM_STOPPED, "%s", err->msg);
		return r;
	}
	bool ran;
	r = run(vm, &ran, err);
	if (r < 0) {
		vm_stopped(vm, "QEMU could not be started");
		/* nothing was written yet: it may as well be started elsewhere */
		if (disks && nobodys && !ran)
			vm_give_up_record(vm);
		return r;
	}
	vm_clear_alarm(vm);
	vm_set_state(vm, VM_ROLE_PRIMARY, VM_UNPROTECTED, "started");
	return 0;
}

void life_stop(struct vm *vm, struct vm_call *c)
{
	struct mc_error err = MC_ERROR_INIT;
	if (!c->force && guest_shutdown(vm->guest, mc_now() + SHUTDOWN_WAIT, &err) < 0)
		log_warn("%s: %s", vm->name, err.msg);
	vm_stopped(vm, c->force ? "killed by the administrator" : "stopped by the administrator");
	vm_call_ok(c, NULL);
}
