/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/vm/published.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/text.h"
#include "mcd/vm/private.h"

#include <assert.h>
#include <stdarg.h>
#include <string.h>

static const char *const state_names[] = {
	[VM_STOPPED] = "stopped",
	[VM_STARTING] = "starting",
	[VM_UNPROTECTED] = "unprotected",
	[VM_SYNCING] = "syncing",
	[VM_PROTECTED] = "protected",
	[VM_HOLDING] = "holding",
	[VM_STANDBY_SYNCING] = "standby-syncing",
	[VM_STANDBY] = "standby",
	[VM_TAKING_OVER] = "taking-over",
	[VM_FAILED] = "failed",
};
#define N_STATES (sizeof state_names / sizeof *state_names)

const char *vm_state_name(enum vm_state s)
{
	return state_names[s];
}

int vm_state_parse(const char *name)
{
	for (size_t i = 0; i < N_STATES; i++)
		if (!strcmp(name, state_names[i]))
			return (int)i;
	return -1;
}

enum vm_state vm_get_state(struct vm *vm)
{
	vm_lock(vm);
	enum vm_state s = vm->shared->shown.state;
	vm_unlock(vm);
	return s;
}

bool vm_has_network(struct vm *vm)
{
	vm_lock(vm);
	bool has = vm->shared->nb != NULL;
	vm_unlock(vm);
	return has;
}

const char *vm_get_unsaved(struct vm *vm, char ret[300])
{
	vm_lock(vm);
	memcpy(ret, vm->shared->shown.unsaved, sizeof vm->shared->shown.unsaved);
	vm_unlock(vm);
	return ret;
}

const char *vm_get_peer(struct vm *vm, char ret[LINK_NAME_MAX + 1])
{
	vm_lock(vm);
	memcpy(ret, vm->shared->shown.peer, LINK_NAME_MAX + 1);
	vm_unlock(vm);
	return ret;
}

uint64_t vm_get_epoch(struct vm *vm)
{
	vm_lock(vm);
	uint64_t epoch = vm->shared->shown.epoch;
	vm_unlock(vm);
	return epoch;
}

void vm_emit(struct vm *vm, const char *event, json_t *data)
{
	if (!data)
		data = json_object();
	json_object_set_new(data, "vm", json_string(vm->name));
	vm->env->ops->emit(vm->env->ctx, event, data);
}

static void changed(struct vm *vm)
{
	vm->env->ops->changed(vm->env->ctx);
}

void vm_set_state(struct vm *vm, enum vm_role role, enum vm_state state, const char *fmt, ...)
{
	static const char *const roles[] = {"none", "primary", "standby"};
	struct vm_shown *shown = &vm->shared->shown;
	char reason[sizeof shown->reason];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(reason, sizeof reason, fmt, ap);
	va_end(ap);
	mc_text_clean(reason); /* or it would be missing in JSON, and all that it is a part of */
	vm_lock(vm);
	enum vm_state from = shown->state;
	shown->role = role;
	shown->state = state;
	memcpy(shown->reason, reason, sizeof reason);
	shown->qemu = vm->guest ? guest_pid(vm->guest) : 0;
	if (role == VM_ROLE_NONE || state == VM_UNPROTECTED)
		shown->peer[0] = 0;
	vm_unlock(vm);
	changed(vm);
	if (from == state)
		return;
	log_notice("%s: %s -> %s: %s", vm->name, vm_state_name(from), vm_state_name(state), reason);
	vm_emit(vm, "STATE_CHANGED",
		json_pack("{s:s, s:s, s:s, s:s}", "role", roles[role], "from", vm_state_name(from),
			"to", vm_state_name(state), "reason", reason));
}

void vm_set_peer(struct vm *vm, const char *peer)
{
	vm_lock(vm);
	snprintf(vm->shared->shown.peer, sizeof vm->shared->shown.peer, "%s", peer);
	vm_unlock(vm);
	changed(vm);
}

void vm_set_unsaved(struct vm *vm, const char *why)
{
	vm_lock(vm);
	snprintf(vm->shared->shown.unsaved, sizeof vm->shared->shown.unsaved, "%s", why);
	vm_unlock(vm);
}

void vm_set_transport(struct vm *vm, const struct vm_stream *s)
{
	struct vm_shown *shown = &vm->shared->shown;
	char was[sizeof shown->transport_why];
	vm_lock(vm);
	memcpy(was, shown->transport_why, sizeof was);
	snprintf(shown->transport, sizeof shown->transport, "%s", s->device[0] ? "rdma" : "tcp");
	mc_text_copy(shown->transport_why, sizeof shown->transport_why, s->why);
	vm_unlock(vm);
	if (s->device[0])
		log_info("%s: the stream goes over RDMA (%s)", vm->name, s->device);
	else if (s->why[0] && strcmp(was, s->why)) /* not with each attempt */
		log_notice("%s: the stream goes over TCP, not RDMA: %s", vm->name, s->why);
}

void vm_set_alarm(struct vm *vm, const char *fmt, ...)
{
	char text[sizeof vm->shared->shown.alarm];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	mc_text_clean(text);
	vm_lock(vm);
	bool fresh = strcmp(vm->shared->shown.alarm, text) != 0;
	memcpy(vm->shared->shown.alarm, text, sizeof text);
	vm_unlock(vm);
	if (!fresh)
		return;
	changed(vm);
	log_error("%s: ALARM: %s", vm->name, text);
	vm_emit(vm, "ALARM", json_pack("{s:s}", "reason", text));
}

void vm_clear_alarm(struct vm *vm)
{
	if (vm->panicked) {
		vm_set_alarm(vm,
			"the guest of %s panicked and is kept, stopped, for you to look at; then "
			"'mcctl stop %s --force'",
			vm->name, vm->name);
		return;
	}
	vm_lock(vm);
	vm->shared->shown.alarm[0] = 0;
	vm_unlock(vm);
	changed(vm);
}

void vm_show_network(struct vm *vm)
{
	vm_lock(vm);
	vm->shared->nb = vm->nb;
	if (!vm->nb)
		memset(&vm->shared->shown.netbuf, 0, sizeof vm->shared->shown.netbuf);
	vm_unlock(vm);
}

/* --- figures ---------------------------------------------------------------------------------- */

void vm_reset_figures(struct vm *vm)
{
	struct vm_shown *s = &vm->shared->shown;
	vm_lock(vm);
	for (int i = 0; i < STEP_MAX; i++)
		mc_histogram_reset(&s->steps[i]);
	mc_histogram_reset(&s->dirty);
	mc_histogram_reset(&s->apply);
	s->epoch = 0;
	s->buffer_budget = vm->max_buffer;
	s->delay = vm->delay;
	memset(&s->sync, 0, sizeof s->sync);
	vm_unlock(vm);
}

void vm_publish_knobs(struct vm *vm)
{
	vm_lock(vm);
	vm->shared->shown.delay = vm->delay;
	vm->shared->shown.buffer_budget = vm->max_buffer;
	vm_unlock(vm);
}

void vm_publish_sync(struct vm *vm, const struct vm_sync_progress *p)
{
	vm_lock(vm);
	vm->shared->shown.sync = *p;
	vm_unlock(vm);
}

void vm_publish_mirror(struct vm *vm, const struct mirror_stats *st)
{
	vm_lock(vm);
	vm->shared->shown.mirror = st ? *st : (struct mirror_stats){0};
	vm_unlock(vm);
}

void vm_publish_epoch(struct vm *vm, const struct vm_epoch_figures *f)
{
	struct vm_shown *s = &vm->shared->shown;
	assert(f->buffer_in_use <= f->buffer_peak);
	vm_lock(vm);
	s->epoch = f->epoch;
	s->acked_at = mc_now();
	s->buffer_in_use = f->buffer_in_use;
	s->buffer_peak = f->buffer_peak;
	if (f->step_ns) {
		for (int i = 0; i < STEP_MAX; i++)
			mc_histogram_add(&s->steps[i], f->step_ns[i]);
		mc_histogram_add(&s->dirty, f->dirty_bytes);
		s->netbuf = f->netbuf;
	} else {
		mc_histogram_add(&s->apply, f->apply_ns);
		if (f->replica)
			s->replica = *f->replica;
	}
	vm_unlock(vm);
}
