/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/vm/owner.h"

#include "common/clock.h"
#include "common/log.h"
#include "mcd/vm/private.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

struct own_record vm_newest_record(struct vm *vm)
{
	vm_lock(vm);
	struct own_record r = vm->shared->learned;
	vm_unlock(vm);
	return r;
}

void vm_learned(struct vm *vm, const struct own_record *rec)
{
	vm_lock(vm);
	bool newer = rec->generation > vm->shared->learned.generation;
	if (newer)
		vm->shared->learned = *rec;
	vm_unlock(vm);
	if (newer)
		vm_ring(vm, WAKE_RECORD);
}

void vm_set_record(struct vm *vm, const struct own_record *rec)
{
	assert(rec->generation >= vm->rec.generation); /* generations only grow */
	vm->rec = *rec;
	vm_lock(vm);
	if (rec->generation > vm->shared->learned.generation)
		vm->shared->learned = *rec;
	vm_unlock(vm);
}

int vm_look(struct vm *vm, uint64_t timeout_ns, struct own_record *ret, struct mc_error *err)
{
	struct own_record rec;
	int r = vm->env->ops->current(vm->env->ctx, vm->name, mc_now() + timeout_ns, &rec, err);
	if (r < 0)
		return r;
	vm_learned(vm, &rec);
	*ret = rec;
	return 0;
}

bool vm_lost(struct vm *vm)
{
	struct own_record newest = vm_newest_record(vm);
	enum decide_ownership own = decide_ownership(&newest, vm->rec.generation + 1, vm_self(vm));
	return own == OWN_LOST || own == OWN_NOBODY;
}

int vm_propose(struct vm *vm, const char *owner, const char *standby, uint64_t timeout_ns,
	struct mc_error *err)
{
	struct own_record next = {.generation = vm->rec.generation + 1}, decided;
	snprintf(next.owner, sizeof next.owner, "%s", owner);
	snprintf(next.standby, sizeof next.standby, "%s", standby);
	vm_emit(vm, "VOTE_STARTED",
		json_pack("{s:I, s:s, s:s}", "generation", (json_int_t)next.generation, "owner",
			next.owner, "standby", next.standby));
	int r = vm->env->ops->propose(
		vm->env->ctx, vm->name, &next, mc_now() + timeout_ns, &decided, err);
	if (r == 0) {
		assert(decided.generation == next.generation);
		vm_set_record(vm, &decided);
		vm_emit(vm, "VOTE_WON",
			json_pack("{s:I, s:s}", "generation", (json_int_t)decided.generation,
				"owner", decided.owner));
	} else if (r == -ESTALE) {
		vm_learned(vm, &decided);
		vm_emit(vm, "VOTE_LOST",
			json_pack("{s:I, s:s}", "generation", (json_int_t)decided.generation,
				"owner", decided.owner));
	} else {
		vm_emit(vm, "VOTE_STUCK",
			json_pack("{s:s}", "reason", err ? err->msg : "no majority"));
	}
	return r;
}

int vm_force(struct vm *vm, struct mc_error *err)
{
	struct own_record next = {.generation = vm->rec.generation + 1}, decided;
	snprintf(next.owner, sizeof next.owner, "%s", vm_self(vm));
	int r = vm->env->ops->force(vm->env->ctx, vm->name, &next, &decided, err);
	if (r == 0) {
		log_warn("%s: generation %" PRIu64
			 " was decided by the operator, not by a majority",
			vm->name, next.generation);
		vm_set_record(vm, &decided);
		vm_emit(vm, "FORCED",
			json_pack("{s:I, s:s}", "generation", (json_int_t)decided.generation,
				"owner", decided.owner));
	} else if (r == -ESTALE) {
		vm_learned(vm, &decided);
	}
	return r;
}
