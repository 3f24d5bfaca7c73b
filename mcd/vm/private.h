/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the threads share of a VM.  For the files of this folder only. */
#pragma once
#include "diskmirror/mirror.h"
#include "diskmirror/replica.h"
#include "mcd/vm/mailbox.h"
#include "mcd/vm/published.h"
#include "mcd/vm/vm.h"

#include <pthread.h>
#include <stdatomic.h>

struct vm_shown { /* see published.h */
	enum vm_role role;
	enum vm_state state;
	char peer[LINK_NAME_MAX + 1];
	char reason[200], alarm[300];
	char transport[8], transport_why[300]; /* of the stream to the peer; why auto chose tcp */
	uint64_t epoch, delay, acked_at;
	struct vm_sync_progress sync;
	struct mc_histogram steps[STEP_MAX];
	struct mc_histogram dirty; /* bytes per epoch */
	struct mc_histogram apply; /* ns per epoch, on a standby */
	uint64_t buffer_budget, buffer_in_use, buffer_peak;
	struct netbuf_stats netbuf;
	struct mirror_stats mirror;   /* the disks, on a primary */
	struct replica_stats replica; /* on a standby */
	char unsaved[300]; /* why its QEMU could not be saved when last asked; "": it could */
	pid_t qemu;
};

struct vm_shared {
	pthread_t thread;
	int bell;            /* eventfd: somebody rang */
	atomic_uint pending; /* WAKE_* */

	pthread_mutex_t lock; /* of all that follows */
	struct vm_call *calls;
	/* a connection that offers to make us standby, or is for its disks; fd -1 = none */
	struct {
		int fd;
		struct link_peer peer;
	} offer, disk_offer;
	struct own_record learned; /* the newest record anybody told us of */
	struct netbuf *nb;         /* = vm->nb while it exists, for its counters */
	struct vm_shown shown;
};

static inline void vm_lock(struct vm *vm)
{
	pthread_mutex_lock(&vm->shared->lock);
}

static inline void vm_unlock(struct vm *vm)
{
	pthread_mutex_unlock(&vm->shared->lock);
}
