/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What `mcctl status` shows of a VM: a copy of the published state as JSON. */
#include "mcd/vm/status.h"

#include "common/clock.h"
#include "mcd/vm/private.h"

static const char *const step_names[STEP_MAX] = {
	[STEP_STOP] = "stop",
	[STEP_BARRIER] = "barrier",
	[STEP_SAVE] = "save",
	[STEP_SCAN] = "scan",
	[STEP_COPY] = "copy",
	[STEP_RESUME] = "resume",
	[STEP_INSPECT] = "inspect",
	[STEP_SEND] = "send",
	[STEP_ACK] = "ack",
	[STEP_RELEASE] = "release",
	[STEP_PAUSE] = "pause",
};

static double pct_ms(const struct mc_histogram *h, double p)
{
	return (double)mc_histogram_percentile(h, p) / 1e6;
}

static json_t *spread(const struct mc_histogram *h)
{
	return json_pack("{s:f, s:f}", "p50_ms", pct_ms(h, 50), "p99_ms", pct_ms(h, 99));
}

static const char *const roles[] = {"none", "primary", "standby"};

void vm_announcement(struct vm *vm, struct cluster_vm *ret)
{
	*ret = (struct cluster_vm){0};
	vm_lock(vm);
	snprintf(ret->name, sizeof ret->name, "%s", vm->name);
	snprintf(ret->peer, sizeof ret->peer, "%s", vm->shared->shown.peer);
	snprintf(ret->role, sizeof ret->role, "%s", roles[vm->shared->shown.role]);
	snprintf(ret->state, sizeof ret->state, "%s", vm_state_name(vm->shared->shown.state));
	snprintf(ret->alarm, sizeof ret->alarm, "%s", vm->shared->shown.alarm);
	ret->generation = vm->shared->learned.generation;
	vm_unlock(vm);
}

static void add_disks(json_t *j, const struct vm_shown *p)
{
	if (p->role == VM_ROLE_PRIMARY && p->mirror.connections)
		json_object_set_new(j, "disks",
			json_pack("{s:I, s:I, s:I, s:I, s:I}", "written_bytes",
				(json_int_t)p->mirror.written_bytes, "sent_bytes",
				(json_int_t)p->mirror.sent_bytes, "skipped_bytes",
				(json_int_t)p->mirror.skipped_bytes, "queued_bytes",
				(json_int_t)p->mirror.queued_bytes, "queued_peak",
				(json_int_t)p->mirror.queued_peak));
	else if (p->role == VM_ROLE_STANDBY && p->replica.received_bytes)
		json_object_set_new(j, "disks",
			json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "received_bytes",
				(json_int_t)p->replica.received_bytes, "applied_bytes",
				(json_int_t)p->replica.applied_bytes, "held_bytes",
				(json_int_t)p->replica.held_bytes, "held_peak",
				(json_int_t)p->replica.held_peak, "spilled_bytes",
				(json_int_t)p->replica.spilled_bytes, "hardened",
				(json_int_t)p->replica.hardened));
}

json_t *vm_status_json(struct vm *vm)
{
	vm_lock(vm);
	struct vm_shown *p = &vm->shared->shown;
	if (vm->shared->nb)
		netbuf_get_stats(vm->shared->nb, &p->netbuf);
	const struct mc_histogram *pause = &p->steps[STEP_PAUSE];
	json_t *steps = json_object();
	for (int i = 0; i < STEP_PAUSE; i++)
		json_object_set_new(steps, step_names[i], spread(&p->steps[i]));
	if (p->role == VM_ROLE_STANDBY)
		json_object_set_new(steps, "apply", spread(&p->apply));
	json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:I, s:s, s:s, s:I, s:f, s:s, s:s, s:i}",
		"name", vm->name, "role", roles[p->role], "state", vm_state_name(p->state), "peer",
		p->peer, "generation", (json_int_t)vm->shared->learned.generation, "owner",
		vm->shared->learned.owner, "standby", vm->shared->learned.standby, "epoch",
		(json_int_t)p->epoch, "delay_ms", (double)p->delay / 1e6, "alarm", p->alarm,
		"reason", p->reason, "qemu_pid", (int)p->qemu);
	if (!j) /* a VM is never missing in the list, whatever somebody called something */
		j = json_pack("{s:s, s:s, s:s}", "name", vm->name, "role", roles[p->role], "state",
			vm_state_name(p->state));
	json_object_set_new(j, "transport", json_string(p->peer[0] ? p->transport : ""));
	json_object_set_new(j, "transport_reason", json_string(p->peer[0] ? p->transport_why : ""));
	bool live = p->state == VM_PROTECTED || p->state == VM_STANDBY || p->state == VM_HOLDING;
	json_object_set_new(j, "lag_ms",
		json_real(live && p->acked_at ? (double)(mc_now() - p->acked_at) / 1e6 : 0));
	json_object_set_new(j, "held_bytes", json_integer((json_int_t)p->netbuf.held_bytes));
	json_object_set_new(j, "held_frames", json_integer((json_int_t)p->netbuf.held_frames));
	json_object_set_new(j, "lost_frames", json_integer((json_int_t)p->netbuf.lost_frames));
	json_object_set_new(j, "sync",
		json_pack("{s:i, s:f, s:f}", "round", (int)p->sync.round, "percent",
			p->sync.percent, "eta_s", p->sync.eta_s));
	json_object_set_new(j, "pause",
		json_pack("{s:f, s:f, s:f, s:I}", "p50_ms", pct_ms(pause, 50), "p99_ms",
			pct_ms(pause, 99), "max_ms", pct_ms(pause, 100), "count",
			(json_int_t)pause->count));
	json_object_set_new(j, "steps", steps);
	json_object_set_new(j, "dirty",
		json_pack("{s:I, s:I}", "p50_bytes",
			(json_int_t)mc_histogram_percentile(&p->dirty, 50), "max_bytes",
			(json_int_t)mc_histogram_percentile(&p->dirty, 100)));
	json_object_set_new(j, "buffer",
		json_pack("{s:I, s:I, s:I}", "budget", (json_int_t)p->buffer_budget, "in_use",
			(json_int_t)p->buffer_in_use, "peak", (json_int_t)p->buffer_peak));
	add_disks(j, p);
	vm_unlock(vm);
	return j;
}
