/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whose the VM is, as far as this host knows, and asking for it to be somebody's. */
#pragma once
#include "common/error.h"
#include "failover/decide.h"

#include <stdbool.h>

struct vm;

/* A newer record was learned, from anybody.  Any thread. */
void vm_learned(struct vm *vm, const struct own_record *rec);
/* The newest record that anybody told us of.  Any thread. */
struct own_record vm_newest_record(struct vm *vm);

/* --- the VM's own thread --- */
/* The record we act under from here on; generations only grow. */
void vm_set_record(struct vm *vm, const struct own_record *rec);
/* Asks a majority for the newest record, which is learned then. */
int vm_look(struct vm *vm, uint64_t timeout_ns, struct own_record *ret, struct mc_error *err);
/* Proposes the successor of vm->rec, once; on 0 vm->rec is it.  Otherwise as voter_propose, and on
 * -ESTALE the newer record is learned.  To ask until it is decided: ask.h. */
int vm_propose(struct vm *vm, const char *owner, const char *standby, uint64_t timeout_ns,
	struct mc_error *err);
/* {self, none} by the operator's word: voter_force. */
int vm_force(struct vm *vm, struct mc_error *err);
/* Whether a record newer than the one we act under gives the VM to others, or to nobody. */
bool vm_lost(struct vm *vm);
