/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/primary/move.h"

#include "common/clock.h"
#include "mcd/primary/epoch.h"
#include "mcd/primary/peer.h"
#include "mcd/primary/verify.h"
#include "mcd/vm/calls.h"
#include "mcd/vm/ends.h"
#include "mcd/vm/owner.h"

#include <assert.h>
#include <errno.h>

int move_offer(struct session *s, uint64_t timeout_ns, struct mc_error *err)
{
	uint64_t deadline = mc_now() + timeout_ns;
	struct wire_header h;
	int r = peer_tell(s, WIRE_HANDOVER, s->acked, err);
	while (r == 0) {
		/* Not woken by the bell: the answer is all that counts for this moment. */
		r = session_fails(s, END_LINK, transport_recv(s->link, &h, deadline, -1, err));
		if (r == 0 && h.type == WIRE_KEPT && !h.length)
			return 0;
		/* asked for by a comparison that has ended */
		if (r == 0 && h.type == WIRE_VERIFIED)
			r = verify_answer(s, &h, err);
		else if (r == 0 &&
			 h.type != WIRE_ACK) /* ACKs of epochs that nobody waits for any more */
			r = peer_unexpected(s, &h, err);
	}
	return r;
}

int move_run(struct session *s, struct vm_call *call, struct mc_error *err)
{
	struct vm *vm = s->vm;
	s->stay_paused = true;
	s->tick_at = 0;
	int r = epoch_run(s, err);
	if (r == 0 && s->powered_off)
		r = session_ends(
			s, END_GUEST_OFF, err, -ECHILD, MC_ECLASS_QMP, "the guest powered off");
	if (r == 0)
		r = move_offer(s, s->timing.ack_overdue, err);
	if (r == 0)
		r = session_fails(s, END_CALL, vm_propose(vm, s->peer, "", MC_SEC, err));
	if (r < 0) {
		mc_error_wrap(err, "%s was not moved", vm->name);
		vm_call_fail(call, err);
		return r;
	}
	assert(s->released == s->e.n);
	s->end = END_CALL;
	/* Decided: our copy is history, whether or not the peer hears of it from us first. */
	vm_call_ok(call, json_pack("{s:s, s:I}", "host", s->peer, "generation",
				 (json_int_t)vm->rec.generation));
	vm_gone(vm, "moved to %s by the administrator", s->peer);
	return 0;
}
