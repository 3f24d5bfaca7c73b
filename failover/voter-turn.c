/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When a thread of ours may ask the voters: one at a time for each VM, and only with the gate
 * open. */
#include "common/clock.h"
#include "common/thread.h"
#include "failover/vote-private.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define GATE_LOOK (5 * MC_MSEC) /* nobody announces that a standstill is over */

void voter_enter(struct voter *v)
{
	pthread_mutex_lock(&v->lock);
	v->callers++;
	pthread_mutex_unlock(&v->lock);
}

void voter_leave(struct voter *v)
{
	pthread_mutex_lock(&v->lock);
	assert(v->callers);
	v->callers--;
	pthread_cond_broadcast(&v->cond);
	pthread_mutex_unlock(&v->lock);
}

bool voter_wait_for_gate(
	struct voter *v, struct voter_vm *vm, uint64_t generation, uint64_t deadline)
{
	for (;;) {
		struct own_record known;
		voter_vm_known(v, vm, &known);
		if (known.generation >= generation || voter_may_grant(v))
			return true;
		uint64_t now = mc_now(),
			 until = now + GATE_LOOK < deadline ? now + GATE_LOOK : deadline;
		struct timespec ts = mc_timespec(until);
		pthread_mutex_lock(&v->lock);
		bool closing = v->closing;
		if (!closing)
			pthread_cond_timedwait(&v->cond, &v->lock, &ts);
		pthread_mutex_unlock(&v->lock);
		if (closing || mc_now() >= deadline)
			return false;
	}
}

bool voter_take_turn(struct voter *v, struct voter_vm *vm, uint64_t deadline)
{
	struct timespec ts = mc_timespec(deadline);
	pthread_mutex_lock(&v->lock);
	while (vm->proposing && !v->closing && mc_now() < deadline)
		pthread_cond_timedwait(&v->cond, &v->lock, &ts);
	bool ours = !vm->proposing;
	vm->proposing = true;
	pthread_mutex_unlock(&v->lock);
	return ours;
}

void voter_end_turn(struct voter *v, struct voter_vm *vm)
{
	pthread_mutex_lock(&v->lock);
	assert(vm->proposing);
	vm->proposing = false;
	pthread_cond_broadcast(&v->cond);
	pthread_mutex_unlock(&v->lock);
}

int voter_no_majority(struct voter *v, const char *vm, struct mc_error *err)
{
	uint32_t connected = mesh_connected(v->mesh);
	char missing[200] = "";
	size_t n = 1;
	for (unsigned i = 1; i <= v->group.n; i++) {
		size_t len = strlen(missing);
		if (i == v->self || connected & 1u << i)
			n += i != v->self;
		else
			snprintf(missing + len, sizeof missing - len, "%s%s", len ? ", " : "",
				v->group.names[i - 1]);
	}
	return mc_error_set(err, -ENOLINK, MC_ECLASS_NO_MAJORITY,
		"VM '%s': no majority of the %zu voters agreed in time (%zu connected%s%s); check "
		"that mcd runs on the hosts and that they reach each other",
		vm, v->group.n, n, missing[0] ? ", no connection to " : "", missing);
}
