/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/primary/listen.h"

#include "common/clock.h"
#include "diskmirror/mirror.h"
#include "mcd/primary/pause.h"
#include "mcd/primary/peer.h"
#include "mcd/primary/verify.h"
#include "mcd/vm/calls.h"
#include "mcd/vm/guest-events.h"
#include "mcd/vm/owner.h"
#include "mcd/vm/timing.h"

#include <errno.h>

#define THEIR_WORD (50 * MC_MSEC) /* with the guest's output held */

/* `mcctl set` reaches the running session, not only the next one.  The standby's own bound stays
 * the one of the HELLO: what does not fit there goes to its disk, so raising ours is safe. */
static void set_knobs(struct session *s, struct vm_call *c)
{
	struct vm *vm = s->vm;
	vm_call_set(vm, c);
	vm_timing(vm->env->cfg, vm->delay, &s->timing);
	slab_pool_set_budget(s->pool, session_memory(vm));
	if (vm->cfg->pin_all)
		slab_pool_reserve(s->pool, session_memory(vm));
	s->tick_at = s->pause_began + vm->delay; /* a shorter delay does not wait for the longer */
}

static int serve_while_syncing(struct session *s, struct mc_error *err)
{
	struct vm *vm = s->vm;
	for (struct vm_call *c; (c = vm_next_call(vm));) {
		if (c->verb == VM_SET) {
			set_knobs(s, c);
		} else if (c->verb == VM_UNPROTECT || c->verb == VM_STOP) {
			bool stop = c->verb == VM_STOP;
			vm_keep_call(vm, c); /* served once the synchronisation has ended */
			return session_ends(s, END_CALL, err, -ECANCELED, MC_ECLASS_STATE,
				"the synchronisation was ended by 'mcctl %s'",
				stop ? "stop" : "unprotect");
		} else {
			vm_call_wrong_state(vm, c);
		}
	}
	return 0;
}

bool session_serve(struct session *s, struct vm_call **ret_call)
{
	for (struct vm_call *c; (c = vm_next_call(s->vm));) {
		if (c->verb == VM_SET) {
			set_knobs(s, c);
		} else if (c->verb == VM_VERIFY) {
			verify_begin(s, c);
		} else if (c->verb == VM_STOP || c->verb == VM_UNPROTECT ||
			   c->verb == VM_FAILOVER) {
			*ret_call = c;
			return true;
		} else {
			vm_call_wrong_state(s->vm, c);
		}
	}
	return false;
}

/* A guest that is off has one more epoch, for its last words (protect.c); while its memory is first
 * copied nothing of it is held. */
static int hear_guest(struct session *s, struct mc_error *err)
{
	enum guest_event ev = vm_guest_events(s->vm);
	if (ev == GUEST_EVENT_SHUTDOWN) {
		s->powered_off = true;
		s->e.urgent = true;
		if (!s->e.n)
			return session_ends(s, END_GUEST_OFF, err, -ECHILD, MC_ECLASS_QMP,
				"the guest powered off");
	}
	/* Once it has powered off its QEMU may go, too: that is no failure. */
	if (ev == GUEST_EVENT_GONE)
		return session_ends(s, s->powered_off ? END_GUEST_OFF : END_GUEST_GONE, err,
			-ECHILD, MC_ECLASS_QMP, "QEMU ended by itself");
	return 0;
}

static int hear_disks(struct session *s, struct mc_error *err)
{
	int r = s->disks.mirror ? mirror_error(s->disks.mirror, err) : 0;
	if (r == 0)
		return 0;
	peer_their_word(s, THEIR_WORD, err);
	return session_fails(s, END_DISKS, r);
}

int session_listen(struct session *s, enum listen_mode mode, struct mc_error *err)
{
	struct vm *vm = s->vm;
	unsigned pending = vm_take_pending(vm);
	int r = hear_guest(s, err);
	if (r < 0)
		return r;
	if (vm->quit)
		return session_ends(
			s, END_QUIT, err, -ESHUTDOWN, MC_ECLASS_STATE, "mcd is shutting down");
	if ((pending & WAKE_RECORD) && vm_newest_record(vm).generation > s->generation)
		return session_ends(s, END_RECORD, err, -ESTALE, MC_ECLASS_NOT_OWNER,
			"a newer ownership record was decided");
	if ((pending & WAKE_SUSPECT) && env_suspected(vm->env, s->peer))
		return session_ends(s, END_PEER_SILENT, err, -EHOSTDOWN, MC_ECLASS_UNREACHABLE,
			"the keep-alives of %s stopped", s->peer);
	if ((pending & WAKE_DISK) && (r = hear_disks(s, err)) < 0)
		return r;
	if (mode == LISTEN_SYNC)
		return pending & WAKE_CALL ? serve_while_syncing(s, err) : 0;
	if (pending & (WAKE_CALL | WAKE_PRESSURE))
		s->e.urgent = true;
	/* Output piles up while its epoch is not acknowledged yet: the guest waits.  RESUME comes
	 * with the next epoch, whose PAUSE finds it stopped. */
	if ((pending & WAKE_PRESSURE) && s->e.under_way && !guest_paused_by_us(vm->guest))
		return session_pause(s, err);
	return 0;
}
