/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The VM's bell, heard by a standby. */
#include "mcd/standby/listen.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "mcd/standby/refuse.h"
#include "mcd/standby/session.h"
#include "mcd/standby/waiting.h"
#include "mcd/vm/calls.h"
#include "mcd/vm/owner.h"

#include <errno.h>
#include <string.h>

/* The operator wants the VM here. While the primary lives, moving it is the primary's to do. */
static void takeover_call(struct standby *s, struct vm_call *c)
{
	struct vm *vm = s->vm;
	struct mc_error err = MC_ERROR_INIT;
	struct own_record rec = vm_newest_record(vm);
	if (!env_suspected(vm->env, s->primary))
		mc_error_set(&err, -EBUSY, MC_ECLASS_STATE,
			"%s is alive; move %s with 'mcctl failover %s' there", s->primary, vm->name,
			vm->name);
	else if (!s->committed || rec.generation != s->generation ||
		 strcmp(rec.standby, vm_self(vm)))
		mc_error_set(&err, -EINVAL, MC_ECLASS_STATE,
			"the copy of %s here is not complete: there is nothing to take over",
			vm->name);
	if (err.code) {
		vm_call_fail(c, &err);
	} else if (!c->force && !vm->env->cfg->failover_automatic && !s->wanted) {
		s->wanted = true; /* asks for the vote that it waited to be told to ask for */
		vm_call_ok(c, json_pack("{s:s}", "state", "asking for ownership"));
	} else {
		if (s->link) { /* nothing is acknowledged any more from here on */
			transport_close(s->link);
			s->link = NULL;
			s->link_down_at = mc_now();
		}
		vm_set_record(vm, &rec);
		vm_call_takeover(vm, c, s->primary);
	}
}

/* The primary has one session at a time: that it offers another says that this one, whose
 * connection is gone already, will not be named any more.  That offer waits for the VM to be
 * idle; others are refused. */
static void answer_offer(struct standby *s)
{
	struct vm *vm = s->vm;
	struct mc_error err = MC_ERROR_INIT;
	struct link_peer peer;
	s->superseded |= !s->link && !standby_named(s) && vm_offered_by(vm, s->primary);
	int fd = s->superseded ? -1 : vm_take_offer(vm, &peer);
	if (fd < 0)
		return;
	mc_error_set(&err, -EBUSY, MC_ECLASS_STATE, "%s is a standby of %s here already", vm->name,
		s->primary);
	standby_refuse(fd, &peer, &err);
}

bool standby_listen(struct standby *s)
{
	struct vm *vm = s->vm;
	bool linked = s->link != NULL;
	unsigned pending = vm_take_pending(vm);
	for (struct vm_call *c; (c = vm_next_call(vm));)
		if (c->verb == VM_TAKEOVER)
			takeover_call(s, c);
		else
			vm_call_wrong_state(vm, c);
	answer_offer(s);
	if (!vm->guest || !guest_alive(vm->guest))
		waiting_relaunch(s);
	/* A verb may have closed the link: then there is nothing to receive from any more. */
	return vm->quit || (linked && !s->link) || (pending & (WAKE_SUSPECT | WAKE_RECORD));
}
