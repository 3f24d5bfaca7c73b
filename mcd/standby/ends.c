/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/standby/ends.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "mcd/standby/epoch.h"
#include "mcd/standby/listen.h"
#include "mcd/standby/peer.h"
#include "mcd/standby/reserve.h"
#include "mcd/standby/takeover.h"
#include "mcd/vm/ask.h"
#include "mcd/vm/ends.h"
#include "mcd/vm/owner.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

struct ending {
	struct vm_question q;
	struct standby *s;
	const char *why;
	bool suspected; /* and said so */
};

/* By the record of our session, or by the one that made us owner after it. */
static bool is_named(const struct standby *s, const struct own_record *rec)
{
	const char *self = vm_self(s->vm);
	return (rec->generation == s->generation && !strcmp(rec->standby, self)) ||
	       (rec->generation == s->generation + 1 && !strcmp(rec->owner, self));
}

/* Another host has it now, by a record that is known here. */
static bool is_lost(const struct standby *s)
{
	struct own_record newest = vm_newest_record(s->vm);
	return newest.generation >= s->generation && newest.owner[0] && !is_named(s, &newest);
}

static void say_suspected(struct ending *e)
{
	struct standby *s = e->s;
	if (e->suspected)
		return;
	e->suspected = true;
	uint64_t age = env_heard_age(s->vm->env, s->primary);
	vm_emit(s->vm, "SUSPECTED",
		json_pack("{s:s, s:I, s:s}", "peer", s->primary, "last_heard",
			(json_int_t)(mc_now() - age), "reason", e->why));
}

static void gather(struct vm_question *q, struct decide_facts *f)
{
	struct ending *e = (struct ending *)q;
	struct standby *s = e->s;
	struct vm *vm = s->vm;
	struct own_record newest = vm_newest_record(vm);
	uint64_t now = mc_now(), since = s->link ? s->last_received : s->link_down_at;
	/* Named by a later session: the image of this one is history. */
	if (f->ownership == OWN_CURRENT && newest.generation > s->generation)
		f->ownership = OWN_LOST;
	f->link_open = s->link != NULL;
	f->data_flows = now - s->last_received < 2 * vm->delay + s->timing.suspect_after;
	f->since_link_down = now > since ? now - since : 1;
	f->peer_suspected = env_suspected(vm->env, s->primary);
	f->peer_left = s->discard;
	f->image_complete = s->committed && is_named(s, &newest);
	f->naming_open = s->committed && newest.generation < s->generation;
	f->superseded = s->superseded;
	f->answered = q->answered;
	f->operator_wants = s->wanted;
	if (f->ownership == OWN_CURRENT && f->peer_suspected && f->image_complete)
		f->others_hear_peer = env_ask_heard(vm->env, s->primary,
					      now + s->timing.ask_heard) < s->timing.heard_fresh;
	/* A handed-over record may be known to the voters before it is known to us. */
	q->look = !decide_link_up(f);
	if (!q->look)
		q->answered = false;
	else if (f->peer_suspected)
		say_suspected(e);
}

static void close_link(struct standby *s)
{
	if (!s->link)
		return;
	transport_close(mc_steal_ptr(s->link));
	s->link_down_at = mc_now();
}

static void begin(struct vm_question *q, const struct decision *d)
{
}

/* After our proposal may have been accepted anywhere nothing is acknowledged any more: the link is
 * closed before the first word to the voters (failover/README.md, 12). */
static void before(struct vm_question *q, const struct decision *d)
{
	struct ending *e = (struct ending *)q;
	struct standby *s = e->s;
	struct vm *vm = s->vm;
	close_link(s);
	struct own_record newest = vm_newest_record(vm);
	if (newest.generation == s->generation)
		vm_set_record(vm, &newest);
	if (!q->proposed)
		log_notice("%s: %s: %s", vm->name, e->why, d->reason);
	vm_set_state(vm, VM_ROLE_STANDBY, VM_TAKING_OVER, "%s; asking for ownership", e->why);
	takeover_keep(s, s->generation + 1); /* before the first word: it may win at once */
	assert(!s->link && s->committed);
}

static void stuck(struct vm_question *q, const struct decision *d, const char *what)
{
	struct ending *e = (struct ending *)q;
	if (q->proposed) /* else it is its primary's, or an operator's turn: no alarm of ours */
		vm_set_alarm(q->vm, "%s, and no majority of the voters answers: %s", e->why, what);
}

static void listen(struct vm_question *q)
{
	standby_listen(((struct ending *)q)->s);
}

static void take_over(struct standby *s, const char *why)
{
	struct vm *vm = s->vm;
	struct own_record newest = vm_newest_record(vm);
	vm_set_record(vm, &newest);
	s->won = true;
	/* The primary may have fallen silent in the middle of an epoch, or handed the VM over
	 * without our hearing it from itself: the connection did not break, so nobody has
	 * dropped yet what had come of it. */
	close_link(s);
	epoch_drop_staged(s);
	vm_set_state(vm, VM_ROLE_STANDBY, VM_TAKING_OVER, "%s", why);
	reserve_release(s);
	struct takeover t = {
		.vm = vm,
		.s = s,
		.primary = s->primary,
		.epoch = s->committed,
		.devices = s->devices,
		.devices_len = s->devices_len,
		.guest_state = s->guest_state,
		.roms = &s->roms,
	};
	takeover_run(&t);
}

bool ends_look(struct standby *s, const char *why)
{
	static const struct vm_asker standby = {
		.gather = gather,
		.begin = begin,
		.before = before,
		.stuck = stuck,
		.listen = listen,
	};
	struct vm *vm = s->vm;
	struct ending e = {
		.q = {.asker = &standby,
			.vm = vm,
			.role = DECIDE_STANDBY,
			.config = {.head_start = s->timing.head_start,
				.unnamed_wait = s->timing.unnamed_wait,
				.automatic = vm->env->cfg->failover_automatic},
			.generation = s->generation,
			.peer = s->primary,
			.pause = s->timing.vote_retry},
		.s = s,
		.why = why,
	};
	struct decision d = vm_ask(&e.q);
	switch (d.action) {
	case ACT_CONTINUE:
		assert(s->link);
		return true;
	case ACT_ACTIVATE:
		take_over(s, why);
		return false;
	case ACT_DESTROY:
		vm_gone(vm, "%s", is_lost(s) ? d.reason : why);
		return false;
	case ACT_LEAVE:
		return false;
	default:
		assert(!"a standby's end that is none");
		return false;
	}
}

/* --- the stream ------------------------------------------------------------------------------- */

void ends_breach(struct standby *s, const struct mc_error *why)
{
	if (why->code == -EREMOTEIO ||
		(strcmp(why->cls, MC_ECLASS_PROTOCOL) && strcmp(why->cls, MC_ECLASS_VERSION)))
		return;
	log_error("%s: %s: %s; closing the connection, nothing of this epoch is acknowledged",
		s->vm->name, s->primary, why->msg);
	vm_emit(s->vm, "PROTOCOL_ERROR",
		json_pack("{s:s, s:s}", "peer", s->primary, "reason", why->msg));
}

void ends_link(struct standby *s, const struct mc_error *why)
{
	ends_breach(s, why);
	if (why->code != -EREMOTEIO && why->code != -ECANCELED &&
		strcmp(why->cls, MC_ECLASS_UNREACHABLE))
		standby_send_error(s, why);
	if (why->code == -ECANCELED) /* in order */
		vm_emit(s->vm, "PROTECTION_ENDED",
			json_pack("{s:s, s:s, s:s}", "peer", s->primary, "why",
				s->discard ? "discarded" : "handed-over", "reason", why->msg));
	else
		vm_emit(s->vm, "LINK_LOST",
			json_pack("{s:s, s:s}", "peer", s->primary, "reason", why->msg));
	transport_close(mc_steal_ptr(s->link));
	if (s->disks)
		replica_cut(s->disks);
	s->link_down_at = mc_now();
	epoch_drop_staged(s);
}
