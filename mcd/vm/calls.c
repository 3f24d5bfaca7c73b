/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/vm/calls.h"

#include "mcd/vm/owner.h"
#include "mcd/vm/published.h"
#include "mcd/vm/vm.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void vm_call_ok(struct vm_call *c, json_t *result)
{
	if (!c->req)
		json_decref(result);
	else
		control_answer(c->req, result ? result : json_object());
	free(c);
}

void vm_call_fail(struct vm_call *c, const struct mc_error *err)
{
	if (c->req)
		control_fail(c->req, err);
	free(c);
}

void vm_call_progress(const struct vm_call *c, json_t *data)
{
	if (c && c->wait && c->req)
		control_progress(c->req, data);
	else
		json_decref(data);
}

void vm_call_wrong_state(struct vm *vm, struct vm_call *c)
{
	static const char *const verbs[] = {
		[VM_START] = "start",
		[VM_STOP] = "stop",
		[VM_PROTECT] = "protect",
		[VM_UNPROTECT] = "unprotect",
		[VM_SET] = "set",
		[VM_FAILOVER] = "failover",
		[VM_TAKEOVER] = "take over",
		[VM_VERIFY] = "verify",
	};
	struct mc_error err = MC_ERROR_INIT;
	enum vm_state s = vm_get_state(vm);
	struct own_record rec = vm_newest_record(vm);
	char peer[LINK_NAME_MAX + 1];
	if (rec.owner[0] && strcmp(rec.owner, vm_self(vm)))
		mc_error_set(&err, -EBUSY, MC_ECLASS_NOT_OWNER,
			"cannot %s %s here: host %s owns it (generation %" PRIu64
			"); run the command there",
			verbs[c->verb], vm->name, rec.owner, rec.generation);
	else if (c->verb == VM_PROTECT && (s == VM_PROTECTED || s == VM_SYNCING))
		mc_error_set(&err, -EALREADY, MC_ECLASS_STATE,
			"%s is %s already, with %s as its standby; unprotect it first", vm->name,
			s == VM_PROTECTED ? "protected" : "being protected", vm_get_peer(vm, peer));
	else if (s == VM_STOPPED)
		mc_error_set(&err, -EINVAL, MC_ECLASS_STATE,
			"cannot %s %s: it is not running; start it with 'mcctl start %s'",
			verbs[c->verb], vm->name, vm->name);
	else
		mc_error_set(&err, -EINVAL, MC_ECLASS_STATE, "cannot %s %s while it is %s",
			verbs[c->verb], vm->name, vm_state_name(s));
	vm_call_fail(c, &err);
}

void vm_call_set(struct vm *vm, struct vm_call *c)
{
	if (c->delay)
		vm->delay = c->delay;
	if (c->max_buffer)
		vm->max_buffer = c->max_buffer;
	vm_publish_knobs(vm);
	vm_call_ok(c, json_pack("{s:f, s:I}", "delay_ms", (double)vm->delay / 1e6, "max_buffer",
			      (json_int_t)vm->max_buffer));
}

bool vm_call_takeover(struct vm *vm, struct vm_call *c, const char *other)
{
	struct mc_error err = MC_ERROR_INIT;
	if (!c->force)
		mc_error_set(&err, -ENOLINK, MC_ECLASS_NO_MAJORITY,
			"no majority of the voters answers, so nothing here can tell whether %s "
			"goes on with %s. Should it be running there, forcing it here means that "
			"two copies of it answer, and that what one of them has acknowledged is "
			"lost. Only when %s is certainly powered off, or cut off for good: mcctl "
			"takeover %s --force",
			other, vm->name, other, vm->name);
	else if (vm_force(vm, &err) == 0) {
		vm_call_ok(c, json_pack("{s:s, s:I}", "owner", vm_self(vm), "generation",
				      (json_int_t)vm->rec.generation));
		return true;
	}
	vm_call_fail(c, &err);
	return false;
}
