/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Answering the verbs that reached a VM.  For its own thread. */
#pragma once
#include "common/error.h"
#include "mcd/vm/mailbox.h"

/* answers and frees; steals result (or NULL) */
void vm_call_ok(struct vm_call *c, json_t *result);
void vm_call_fail(struct vm_call *c, const struct mc_error *err); /* answers and frees */
/* An intermediate line, where whoever called waits for such. c may be NULL; steals data. */
void vm_call_progress(const struct vm_call *c, json_t *data);
/* The answer to a verb that does not fit the state. */
void vm_call_wrong_state(struct vm *vm, struct vm_call *c);
void vm_call_set(struct vm *vm, struct vm_call *c); /* the verb set, allowed in every state */
/* `mcctl takeover` where no majority answers: with force, the operator's word replaces it
 * (vm_force) and this host is sole owner (true); without, the answer explains what force risks.
 * other: the host that may still have the VM. */
bool vm_call_takeover(struct vm *vm, struct vm_call *c, const char *other);
