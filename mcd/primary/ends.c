/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/primary/ends.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "diskmirror/mirror.h"
#include "mcd/primary/disks.h"
#include "mcd/primary/move.h"
#include "mcd/primary/peer.h"
#include "mcd/vm/ask.h"
#include "mcd/vm/calls.h"
#include "mcd/vm/ends.h"
#include "mcd/vm/kept.h"
#include "mcd/vm/machine.h"
#include "mcd/vm/mailbox.h"
#include "mcd/vm/owner.h"
#include "mcd/vm/waits.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define DYING (300 * MC_MSEC) /* from the last closed socket of a process to its end */
#define PAUSE (100 * MC_MSEC) /* between two attempts at a vote */
#define OFFER (300 * MC_MSEC) /* for a standby to keep its image, before it is made owner */

struct ending {
	struct vm_question q;
	struct session *s; /* NULL: mcd was restarted */
	enum session_end end;
	const char *why;
	bool stopped; /* by force */
	char was_with[LINK_NAME_MAX + 1];
};

static bool is_peer_named(const struct ending *e, const struct own_record *newest)
{
	return e->s && newest->generation >= e->s->generation &&
	       !strcmp(newest->owner, vm_self(e->q.vm)) && !strcmp(newest->standby, e->s->peer);
}

static void gather(struct vm_question *q, struct decide_facts *f)
{
	struct ending *e = (struct ending *)q;
	struct vm *vm = q->vm;
	struct own_record newest = vm_newest_record(vm);
	f->end = e->end;
	f->operator_stops = e->stopped;
	f->keeps_disks = vm->cfg && vm->cfg->n_disks;
	f->peer_named = is_peer_named(e, &newest);
	if (f->guest_gone)
		vm_watch_guest(vm, false); /* or its pidfd would keep every wait from waiting */
	if (e->end != END_RESTART)
		return;
	/* Our own disk may be behind: "it was ours when we last heard" can be acted on, by
	 * asking for the next generation, and only winning it counts; anything else is asked of
	 * the majority first. */
	if (strcmp(newest.owner, vm_self(vm)))
		f->ownership = !q->answered ? OWN_UNKNOWN : newest.owner[0] ? OWN_LOST : OWN_NOBODY;
	else if (!q->won)
		f->ownership = OWN_CURRENT;
}

/* Held and stopped, until it is decided. */
static void stand_still(struct vm *vm)
{
	if (guest_alive(vm->guest) && guest_ping(vm->guest, WAIT_PING, NULL) == 0)
		guest_pause(vm->guest, WAIT_QMP, NULL);
}

static void begin(struct vm_question *q, const struct decision *d)
{
	struct ending *e = (struct ending *)q;
	struct vm *vm = q->vm;
	if (e->end == END_GUEST_OFF) {
		vm_watch_guest(vm, false); /* should QEMU go too, no wait ends early for it */
		vm_set_state(vm, VM_ROLE_PRIMARY, VM_HOLDING,
			"the guest powered off; asking that no other host goes on");
		return;
	}
	if (d->action == ACT_HAND_OVER) {
		vm_set_state(
			vm, VM_ROLE_PRIMARY, VM_HOLDING, "%s; handing over to %s", e->why, q->peer);
		return;
	}
	if (e->s && e->end != END_CALL) {
		disks_drop(e->s, false);
		transport_close(mc_steal_ptr(e->s->link)); /* tells a living standby at once */
	}
	stand_still(vm);
	vm_set_state(vm, VM_ROLE_PRIMARY, VM_HOLDING, "%s; asking for sole ownership", e->why);
}

static void before(struct vm_question *q, const struct decision *d)
{
	struct ending *e = (struct ending *)q;
	struct vm *vm = q->vm;
	/* An earlier proposal of our own may have got through: we go on from it. */
	struct own_record newest = vm_newest_record(vm);
	if (newest.generation > vm->rec.generation && !strcmp(newest.owner, vm_self(vm)))
		vm_set_record(vm, &newest);
	if (d->action == ACT_HAND_OVER && !q->proposed) {
		netbuf_shut(vm->nb, NULL);
		/* Best effort: a standby that cannot answer is no reason not to make it owner. */
		if (e->s->link)
			move_offer(e->s, OFFER, NULL);
	}
}

static void stuck(struct vm_question *q, const struct decision *d, const char *what)
{
	struct ending *e = (struct ending *)q;
	struct vm *vm = q->vm;
	if (e->end == END_GUEST_OFF)
		vm_set_alarm(vm,
			"the guest of %s powered off, but no majority of the voters takes note of "
			"it: %s",
			vm->name, what);
	else if (d->action == ACT_HAND_OVER)
		vm_set_alarm(vm, "QEMU %s and %s cannot be made owner: %s",
			guest_alive(vm->guest) ? "does not answer" : "ended", q->peer, what);
	else if (d->action == ACT_LOOK)
		vm_set_alarm(
			vm, "it was found running, and no majority says whose it is: %s", what);
	else
		vm_set_alarm(vm,
			"%s; output is held and the guest is paused until a majority of the voters "
			"answers: %s",
			e->why, what);
}

/* Stopping by force, and the operator's word in place of a majority's, are for a guest that stands
 * here and waits. */
static void listen(struct vm_question *q)
{
	struct ending *e = (struct ending *)q;
	struct vm *vm = q->vm;
	bool waits = e->end != END_GUEST_OFF && guest_alive(vm->guest);
	vm_take_pending(vm);
	for (struct vm_call *c; (c = vm_next_call(vm));)
		if (waits && c->verb == VM_STOP && c->force) {
			vm_call_ok(c, NULL);
			e->stopped = true;
		} else if (waits && c->verb == VM_TAKEOVER) {
			q->won |= vm_call_takeover(vm, c, e->was_with);
		} else {
			vm_call_wrong_state(vm, c);
		}
}

/* Won: no other host can ever show the VM under this generation.  Now, and only now, the hold ends
 * (failover/README.md, 14). */
static void go_on_alone(struct ending *e)
{
	struct vm *vm = e->q.vm;
	struct own_record newest = vm_newest_record(vm);
	vm_set_record(vm, &newest);
	assert(!strcmp(vm->rec.owner, vm_self(vm)) && !vm->rec.standby[0]);
	vm_clear_alarm(vm);
	vm->shut_in = true;
	vm_resume(vm);
	vm_open(vm);
	vm_set_state(vm, VM_ROLE_PRIMARY, VM_UNPROTECTED, "%s; runs on %s%s", e->why,
		e->was_with[0] ? "without " : "as sole owner", e->was_with);
	vm_emit(vm, "RUNNING",
		json_pack("{s:I, s:I}", "epoch", (json_int_t)vm_get_epoch(vm), "generation",
			(json_int_t)vm->rec.generation));
}

static void destroy(struct ending *e)
{
	struct vm *vm = e->q.vm;
	struct own_record newest = vm_newest_record(vm);
	const char *owner = newest.owner[0] ? newest.owner : "nobody";
	if (e->stopped)
		vm_gone(vm, "stopped by force while ownership was undecided");
	else if (e->end == END_RESTART)
		vm_gone(vm, "it was found running, but belongs to %s", owner);
	else if (!guest_alive(vm->guest) && !strcmp(newest.owner, e->q.peer))
		vm_gone(vm, "QEMU ended by itself; %s goes on from epoch %" PRIu64, owner,
			e->s->acked);
	else if (e->end == END_GUEST_HUNG && !strcmp(newest.owner, e->q.peer))
		vm_gone(vm, "QEMU did not answer and was ended; %s goes on from epoch %" PRIu64,
			owner, e->s->acked);
	else
		vm_gone(vm, "%s owns it now (generation %" PRIu64 ")", owner, newest.generation);
}

static void stop(struct ending *e)
{
	struct vm *vm = e->q.vm;
	struct own_record newest = vm_newest_record(vm);
	vm_set_record(vm, &newest);
	vm_teardown(vm);
	vm_clear_alarm(vm);
	vm_set_state(vm, VM_ROLE_NONE, VM_STOPPED, "the guest powered off");
	if (e->s)
		peer_tell(e->s, WIRE_DISCARD, e->s->e.n, NULL);
}

static void decide_end(struct vm *vm, struct session *s, enum session_end end, const char *why)
{
	static const struct vm_asker primary = {
		.gather = gather,
		.begin = begin,
		.before = before,
		.stuck = stuck,
		.listen = listen,
	};
	struct own_record newest = vm_newest_record(vm);
	struct ending e = {
		.q = {.asker = &primary,
			.vm = vm,
			.role = DECIDE_PRIMARY,
			.generation = s ? s->generation : newest.generation + 1,
			.peer = s ? s->peer : "",
			.pause = PAUSE},
		.s = s,
		.end = end,
		.why = why,
	};
	vm_get_peer(vm, e.was_with);
	struct decision d = vm_ask(&e.q);
	log_notice("%s: %s: %s: %s", vm->name, why, decide_action_name(d.action), d.reason);
	switch (d.action) {
	case ACT_LEAVE: /* the guest goes on; what it says is not heard until mcd is back */
		break;
	case ACT_RELEASE:
		go_on_alone(&e);
		break;
	case ACT_BURY:
		vm_guest_ended(vm, GUEST_EVENT_GONE);
		break;
	case ACT_STOP:
		stop(&e);
		break;
	case ACT_DESTROY:
		destroy(&e);
		break;
	default:
		assert(!"a primary's end that is none");
	}
}

/* --- ends of a session ------------------------------------------------------------------------ */

void ends_report_breach(const struct session *s, const struct mc_error *why)
{
	if (why->code != -EREMOTEIO &&
		(!strcmp(why->cls, MC_ECLASS_PROTOCOL) || !strcmp(why->cls, MC_ECLASS_VERSION)))
		vm_emit(s->vm, "PROTOCOL_ERROR",
			json_pack("{s:s, s:s}", "peer", s->peer, "reason", why->msg));
}

/* A step that talks to QEMU, or the mirror that QEMU talks to, may find it dead before its pidfd
 * says so; whether it is decides who may go on. */
static void look_for_the_dead(struct session *s)
{
	struct guest *g = s->vm->guest;
	bool mirror_broke = s->disks.mirror && mirror_error(s->disks.mirror, NULL) < 0;
	bool may_be_dying = s->end == END_FAULT || s->end == END_DISKS || mirror_broke;
	if (s->end == END_QUIT || s->end == END_GUEST_OFF || s->end == END_GUEST_GONE)
		return;
	if (guest_gone_within(g, may_be_dying ? DYING : 0))
		s->end = s->powered_off ? END_GUEST_OFF : END_GUEST_GONE;
	else if (s->powered_off)
		guest_event_back(g, GUEST_EVENT_SHUTDOWN); /* for whoever has the VM next */
}

/* A step was not answered in time.  The standby is not to blame for it, and has an image that runs.
 * QEMU is asked once more: one that answers now waited for the mirror, or was only slow, and its
 * guest is good. */
static void look_for_the_hung(struct session *s, const struct mc_error *why)
{
	bool may_hang = s->end == END_FAULT || s->end == END_DISKS;
	struct mc_error err = MC_ERROR_INIT;
	if (!may_hang || why->code != -ETIMEDOUT || s->powered_off)
		return;
	if (guest_ping(s->vm->guest, WAIT_PING, &err) < 0 && guest_alive(s->vm->guest))
		s->end = END_GUEST_HUNG;
}

static void tell_ended(struct session *s, const char *why)
{
	const char *end = session_end_name(s->end);
	log_notice("%s: protection ended in step %s of epoch %" PRIu64 " (%s): %s", s->vm->name,
		s->e.step ? s->e.step : "-", s->e.n, end, why);
	vm_emit(s->vm, "PROTECTION_ENDED",
		json_pack("{s:s, s:s, s:s}", "peer", s->peer, "why", end, "reason", why));
	if (s->end == END_LINK)
		vm_emit(s->vm, "LINK_LOST",
			json_pack("{s:s, s:s}", "peer", s->peer, "reason", why));
}

void ends_session(struct session *s, struct mc_error *why)
{
	assert(s->holding && s->end != END_NONE);
	ends_report_breach(s, why);
	look_for_the_dead(s);
	look_for_the_hung(s, why);
	tell_ended(s, why->msg);
	decide_end(s->vm, s, s->end, why->msg);
}

void ends_by_call(struct session *s, struct vm_call *call)
{
	struct vm *vm = s->vm;
	struct mc_error err = MC_ERROR_INIT;
	bool stop = call->verb == VM_STOP;
	const char *why =
		stop ? "stopped by the administrator" : "unprotected by the administrator";
	if (call->verb == VM_FAILOVER) {
		if (move_run(s, call, &err) < 0)
			ends_session(s, &err);
		else
			tell_ended(s, "moved by the administrator");
		return;
	}
	vm_want_peer(vm, "");
	s->end = END_CALL;
	tell_ended(s, why);
	disks_drop(s, true);
	decide_end(vm, s, END_CALL, why);
	/* Its image is worthless once it is decided, and not before. */
	if (!strcmp(vm->rec.owner, vm_self(vm)) && !vm->rec.standby[0])
		peer_tell(s, WIRE_DISCARD, s->e.n, NULL);
	if (vm_get_state(vm) != VM_UNPROTECTED)
		vm_call_wrong_state(vm, call); /* it was lost to another host meanwhile */
	else if (stop)
		vm_keep_call(vm, call); /* served by the unprotected VM */
	else
		vm_call_ok(call, NULL);
}

void ends_restart(struct vm *vm)
{
	decide_end(vm, NULL, END_RESTART, "mcd was restarted");
}
