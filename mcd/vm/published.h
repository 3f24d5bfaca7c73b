/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What other threads, and through them the administrator, may see of a VM: written by the VM's own
 * thread, and copied under its lock. */
#pragma once
#include "common/histogram.h"
#include "common/link.h"
#include "diskmirror/mirror.h"
#include "diskmirror/replica.h"
#include "mcd/vm/env.h"
#include "netbuf/netbuf.h"

#include <jansson.h>
#include <stdint.h>

struct vm;

enum vm_role { VM_ROLE_NONE, VM_ROLE_PRIMARY, VM_ROLE_STANDBY };

enum vm_state {
	VM_STOPPED,
	VM_STARTING,
	VM_UNPROTECTED,
	VM_SYNCING,
	VM_PROTECTED,
	VM_HOLDING, /* paused, output held: neither an ACK nor ownership could be had yet */
	VM_STANDBY_SYNCING,
	VM_STANDBY,
	VM_TAKING_OVER,
	VM_FAILED, /* this host owns the VM and it does not run: see the alarm */
};

/* The barometer: what each step of an epoch costs. */
enum vm_step {
	STEP_STOP,
	STEP_BARRIER,
	STEP_SAVE,
	STEP_SCAN,
	STEP_COPY,
	STEP_RESUME, /* so far inside the pause */
	STEP_INSPECT,
	STEP_SEND,
	STEP_ACK,
	STEP_RELEASE,
	STEP_PAUSE, /* from before stop to after resume */
	STEP_MAX,
};

struct vm_sync_progress {
	unsigned round;
	double percent, eta_s, rate_mbs;
	uint64_t sent;
};

/* --- any thread --- */
enum vm_state vm_get_state(struct vm *vm);
const char *vm_state_name(enum vm_state s);
int vm_state_parse(const char *name); /* -1: no such state */
/* Whether it has a network here: somebody's frames may be behind its interfaces. */
bool vm_has_network(struct vm *vm);
/* The other host of the protection, "" without one; returns ret. */
const char *vm_get_peer(struct vm *vm, char ret[LINK_NAME_MAX + 1]);
uint64_t vm_get_epoch(struct vm *vm);
/* Why the QEMU that runs here could not be saved, "" if it could or was not asked; returns ret. */
const char *vm_get_unsaved(struct vm *vm, char ret[300]);
/* adds "vm"; steals data (may be NULL) */
void vm_emit(struct vm *vm, const char *event, json_t *data);

/* --- the VM's own thread --- */
/* Publishes a state; tells log, subscribers and waiters, with the reason as a sentence. */
void vm_set_state(struct vm *vm, enum vm_role role, enum vm_state state, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void vm_set_peer(struct vm *vm, const char *peer);
void vm_set_transport(struct vm *vm, const struct vm_stream *s); /* what the stream goes over */
/* as vm_get_unsaved tells it; "": there is nothing */
void vm_set_unsaved(struct vm *vm, const char *why);
void vm_set_alarm(struct vm *vm, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* to the one of a panicked guest, while there is such a guest */
void vm_clear_alarm(struct vm *vm);
/* vm->nb has changed: its counters are shown while it exists */
void vm_show_network(struct vm *vm);

void vm_reset_figures(struct vm *vm);
void vm_publish_knobs(struct vm *vm); /* vm->delay and vm->max_buffer */
void vm_publish_sync(struct vm *vm, const struct vm_sync_progress *p);
/* NULL: there is none any more */
void vm_publish_mirror(struct vm *vm, const struct mirror_stats *st);

struct vm_epoch_figures { /* of an epoch that is over */
	uint64_t epoch;
	uint64_t buffer_in_use, buffer_peak; /* bytes */
	/* on a primary */
	const uint64_t *step_ns; /* STEP_MAX; NULL on a standby */
	uint64_t dirty_bytes;
	struct netbuf_stats netbuf;
	/* on a standby */
	uint64_t apply_ns;
	const struct replica_stats *replica; /* NULL: without disks */
};
void vm_publish_epoch(struct vm *vm, const struct vm_epoch_figures *f);
