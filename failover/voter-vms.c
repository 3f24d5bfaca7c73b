/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The VMs that a voter knows, and what it knows to be decided of each.
 *
 * vm->known is in memory only and may be ahead of vm->state, which is on disk and which answers
 * follow from.  Knowledge may be forgotten by a crash without harm (a decided record is on the
 * disks of a majority as accepted), a promise may not.
 */
#include "common/log.h"
#include "failover/vote-private.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VMS_MAX 1024 /* a broken peer must not fill our memory and directory */

/* Opens (reads) the VM's file; damage costs our vote on this VM, not the others. */
static struct voter_vm *vm_load(struct voter *v, const char *name)
{
	struct voter_vm *vm = calloc(1, sizeof *vm);
	if (!vm)
		return NULL;
	snprintf(vm->name, sizeof vm->name, "%s", name);
	pthread_mutex_init(&vm->lock, NULL);
	struct mc_error err = MC_ERROR_INIT;
	vm->file.fd = -1;
	if (record_open(v->dir, v->self_name, name, &vm->file, &vm->state, &err) < 0) {
		log_error("%s", err.msg);
		vm->broken = true;
	}
	vm->known = vm->state.decided;
	return vm;
}

struct voter_vm *voter_vm_get(struct voter *v, const char *name, bool create)
{
	if (!vote_name_valid(name))
		return NULL;
	pthread_mutex_lock(&v->lock);
	struct voter_vm *vm = v->vms;
	while (vm && strcmp(vm->name, name))
		vm = vm->next;
	/* All files were read by voter_open: a name not listed has none, so this is quick. */
	if (!vm && create && v->n_vms < VMS_MAX && (vm = vm_load(v, name))) {
		vm->next = v->vms;
		v->vms = vm;
		v->n_vms++;
		assert(v->n_vms <= VMS_MAX);
	}
	pthread_mutex_unlock(&v->lock);
	return vm;
}

void voter_vm_known(struct voter *v, struct voter_vm *vm, struct own_record *ret)
{
	pthread_mutex_lock(&v->lock);
	*ret = vm->known;
	pthread_mutex_unlock(&v->lock);
}

void voter_vm_learn(struct voter *v, struct voter_vm *vm, const struct own_record *rec)
{
	if (rec->generation == 0)
		return;
	pthread_mutex_lock(&v->lock);
	struct own_record known = vm->known;
	bool newer = rec->generation > known.generation;
	if (newer) {
		assert(own_record_valid(rec));
		vm->known = *rec;
		vm->unsynced = true;
		pthread_cond_broadcast(&v->cond);
	}
	pthread_mutex_unlock(&v->lock);
	if (rec->generation == known.generation && !own_record_equal(rec, &known))
		log_error(
			"VM '%s': generation %llu is decided as owner '%s' here and as owner '%s' "
			"elsewhere; this must never happen: stop the VM on one of them and report "
			"it",
			vm->name, (unsigned long long)rec->generation, known.owner, rec->owner);
	if (!newer)
		return;
	mesh_poke(v->mesh);
	if (v->cfg.learned)
		v->cfg.learned(v->cfg.ctx, vm->name, rec);
}

bool voter_may_grant(struct voter *v)
{
	return !v->cfg.may_grant || v->cfg.may_grant(v->cfg.ctx);
}

void voter_vm_request(struct voter *v, const struct voter_vm *vm, const struct paxos_msg *req,
	struct vote_msg *ret)
{
	*ret = (struct vote_msg){.group = v->group_id, .list = v->group.number, .paxos = *req};
	memcpy(ret->subject, vm->name, sizeof ret->subject);
}
