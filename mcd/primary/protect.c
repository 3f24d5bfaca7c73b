/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One protection from `mcctl protect` to its end, on the primary:
 *
 *   greet        both sides are fit for it, and connected (greet.c)
 *   synchronise  disks and memory are copied while the guest runs (disks.c, sync.c)
 *   begin        from unprotected to protected, in the order that is the argument
 *   epochs       one after the other, until something ends them (epoch.c, listen.c)
 *   end          a verb, or what failover/decide.c says (ends.c)
 */
#include "mcd/primary/protect.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "diskmirror/mirror.h"
#include "mcd/primary/capture.h"
#include "mcd/primary/disks.h"
#include "mcd/primary/ends.h"
#include "mcd/primary/epoch.h"
#include "mcd/primary/greet.h"
#include "mcd/primary/listen.h"
#include "mcd/primary/pause.h"
#include "mcd/primary/peer.h"
#include "mcd/primary/sync.h"
#include "mcd/primary/verify.h"
#include "mcd/vm/calls.h"
#include "mcd/vm/ends.h"
#include "mcd/vm/guest-clock.h"
#include "mcd/vm/kept.h"
#include "mcd/vm/machine.h"
#include "mcd/vm/owner.h"
#include "mcd/vm/timing.h"
#include "mcd/vm/waits.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define VOTE_PATIENCE                                                                              \
	(5 * MC_SEC) /* of the vote that names the standby, with the guest's output held */

static void begin_session(struct session *s, struct vm *vm, const struct vm_call *call)
{
	*s = (struct session){.vm = vm, .generation = vm->rec.generation + 1};
	s->slabs_tail = &s->slabs;
	snprintf(s->peer, sizeof s->peer, "%s", call->peer);
	if (call->delay)
		vm->delay = call->delay;
	if (call->max_buffer)
		vm->max_buffer = call->max_buffer;
	vm_timing(vm->env->cfg, vm->delay, &s->timing);
}

static int synchronise(struct session *s, struct vm_call **call, struct mc_error *err)
{
	struct vm *vm = s->vm;
	vm_set_peer(vm, s->peer);
	vm_reset_figures(vm);
	vm_set_state(vm, VM_ROLE_PRIMARY, VM_SYNCING, "copying memory to %s", s->peer);
	if (!(*call)->wait)
		vm_call_ok(mc_steal_ptr(*call), json_pack("{s:s}", "state", "syncing"));
	int r = sync_roms(s, err);
	if (r == 0)
		r = disks_sync(s, *call, err);
	if (r == 0)
		r = sync_rounds(s, *call, err);
	return r < 0 ? r : session_check_majority(vm, err);
}

/*
 * The turn from unprotected to protected.  The order is the argument: the hold begins before the
 * proposal, because from the moment {self, peer} is decided the peer may take over; the proposal
 * comes after the ACK, because only a complete image may be named; the release comes after both.
 * From the hold on there is no way back but winning {self, none}: the caller takes it on any error.
 */
static int begin_protection(struct session *s, struct mc_error *err)
{
	struct vm *vm = s->vm;
	s->holding = true;
	/* Stopped, so that no frame is under way when the hold begins (netbuf.h); the epoch that
	 * follows at once would stop it anyway, and resumes it. */
	s->tick_at = 0;
	int r = session_pause(s, err);
	if (r == 0)
		r = netbuf_hold(vm->nb, 1, err);
	struct netbuf_stats st;
	netbuf_get_stats(vm->nb, &st);
	s->lost_before = st.lost_frames;
	if (r < 0)
		return session_fails(s, END_FAULT, r);
	if (s->disks.mirror)
		mirror_begin(s->disks.mirror, 1);
	r = epoch_run_until_acked(s, err);
	if (r < 0)
		return r;
	assert(s->acked == 1 && vm->rec.generation + 1 == s->generation);
	uint64_t patience = mc_now() + VOTE_PATIENCE;
	do {
		r = vm_propose(vm, vm_self(vm), s->peer, WAIT_VOTE, err);
	} while (r == -ENOLINK && mc_now() < patience);
	if (r < 0)
		return session_fails(s, END_RECORD, r);
	r = peer_tell(s, WIRE_PROTECTED, s->e.n, err);
	return r < 0 ? r : epoch_release(s, err);
}

static void tell_protected(struct session *s, struct vm_call *call)
{
	struct vm *vm = s->vm;
	vm_want_peer(vm, s->peer);
	vm_clear_alarm(vm);
	vm_set_state(vm, VM_ROLE_PRIMARY, VM_PROTECTED, "%s holds epoch %" PRIu64, s->peer, s->e.n);
	if (call)
		vm_call_ok(call,
			json_pack("{s:s, s:I}", "state", "protected", "epoch", (json_int_t)s->e.n));
}

/* Until something ends them: a verb in *ret_call (0), or what s->end says. */
static int run_epochs(struct session *s, struct vm_call **ret_call, struct mc_error *err)
{
	for (;;) {
		/* The one that begins after the power-off was seen contains all the guest ever
		 * said. */
		bool last = s->powered_off;
		if (last)
			s->tick_at = 0;
		int r = epoch_run(s, err);
		if (r < 0)
			return r;
		if (last)
			return session_ends(s, END_GUEST_OFF, err, -ECHILD, MC_ECLASS_QMP,
				"the guest powered off");
		vm_clock_keep(s->vm);
		if (!s->powered_off && session_serve(s, ret_call))
			return 0;
	}
}

/* It never was protected: the answer is why not. */
static void tell_refused(struct vm_call *call, const struct mc_error *err)
{
	if (call)
		vm_call_fail(call, err);
	else
		log_error("%s", err->msg);
}

/* Nothing was held yet: the VM goes on as it was.  Whoever called is told when it does. */
static void go_on_unprotected(struct session *s, struct vm_call *call, const struct mc_error *err)
{
	struct vm *vm = s->vm;
	ends_report_breach(s, err);
	if (s->end == END_GUEST_OFF || s->end == END_GUEST_GONE) {
		vm_guest_ended(
			vm, s->end == END_GUEST_OFF ? GUEST_EVENT_SHUTDOWN : GUEST_EVENT_GONE);
	} else {
		vm_resume(vm);
		vm_set_state(vm, VM_ROLE_PRIMARY, VM_UNPROTECTED, "%s", err->msg);
	}
	tell_refused(call, err);
}

/* What the peer said while we were sending has not been given its name yet (transport.h). */
static void name_peer(const struct session *s, struct mc_error *err)
{
	if (err->code == -EREMOTEIO && strncmp(err->msg, s->peer, strlen(s->peer)))
		mc_error_wrap(err, "%s", s->peer);
}

/* A host that has no memory or disk left does not get any by waiting, as one that is away comes
 * back: somebody has to know.  Over with the next protection. */
static void alarm_of_shortage(const struct session *s, const struct mc_error *why)
{
	struct vm *vm = s->vm;
	bool theirs =
		why->code == -EREMOTEIO && !strcmp(why->cls, MC_ECLASS_MEMORY) && vm->want_peer[0];
	if ((theirs || s->end == END_OUTPUT_LOST) && vm_get_state(vm) == VM_UNPROTECTED)
		vm_set_alarm(vm, "%s runs unprotected: %s", vm->name, why->msg);
}

uint64_t protect_run(struct vm *vm, struct vm_call *call)
{
	struct mc_error err = MC_ERROR_INIT;
	struct session s;
	struct vm_call *end = NULL;
	uint64_t delay = vm->delay, max_buffer = vm->max_buffer, protected_at = 0;
	begin_session(&s, vm, call);
	int r = session_greet(&s, &err);
	if (r == 0)
		r = synchronise(&s, &call, &err);
	if (r == 0)
		r = begin_protection(&s, &err);
	if (r == 0) {
		protected_at = mc_now();
		tell_protected(&s, mc_steal_ptr(call));
		r = run_epochs(&s, &end, &err);
		name_peer(&s, &err);
		verify_end(&s, end ? "the protection is ended" : err.msg);
	} else {
		name_peer(&s, &err);
		mc_error_wrap(&err, "cannot protect %s", vm->name);
		vm->delay = delay;
		vm->max_buffer = max_buffer;
		if (s.holding)
			tell_refused(
				mc_steal_ptr(call), &err); /* a vote follows, and may take long */
		else
			go_on_unprotected(&s, mc_steal_ptr(call), &err);
	}
	if (end)
		ends_by_call(&s, end);
	else if (s.holding)
		ends_session(&s, &err);
	alarm_of_shortage(&s, &err);
	session_free(&s);
	return protected_at;
}
