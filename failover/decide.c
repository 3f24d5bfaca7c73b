/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Order of the questions, for both roles: first what is decided (it is a fact, whatever the network
 * looks like), then what we ourselves began, then whether anything is wrong, then who goes first,
 * and last whether we may ask at all.
 */
#include "failover/decide.h"

#include <stddef.h>

static struct decision act(enum decide_action action, const char *reason)
{
	return (struct decision){action, reason};
}

static struct decision propose_if_quorate(
	const struct decide_facts *f, enum decide_action action, const char *reason)
{
	if (!f->quorate)
		return act(ACT_HOLD,
			"this host is cut off from the cluster's quorate part: holding until "
			"it is back");
	return act(action, reason);
}

static struct decision decide_primary(const struct decide_facts *f)
{
	switch (f->ownership) {
	case OWN_LOST:
		return act(ACT_DESTROY,
			"the VM is owned by another host now: this copy must not be seen");
	case OWN_ALONE:
		if (f->guest_gone)
			return act(
				ACT_CONTINUE, "QEMU has exited and there is no standby to go on");
		return act(ACT_RELEASE,
			"this host owns the VM alone: output may leave, it runs unprotected");
	case OWN_UNDECIDED:
		/* Even if the standby is back: the record that drops it may already be decided. */
		if (f->guest_gone && !f->peer_left)
			return propose_if_quorate(f, ACT_HAND_OVER,
				"QEMU has exited: the standby goes on from its last epoch");
		return act(ACT_HOLD, "the voters have not decided yet: output stays held");
	case OWN_CURRENT:
		break;
	}
	if (f->peer_left)
		return propose_if_quorate(f, ACT_PROPOSE_SELF, "the standby left in order");
	if (f->guest_gone)
		return propose_if_quorate(f, ACT_HAND_OVER,
			"QEMU has exited: the standby goes on from its last epoch");
	if (!f->link_up)
		return propose_if_quorate(
			f, ACT_PROPOSE_SELF, "the replication connection is lost");
	if (f->peer_suspected)
		return propose_if_quorate(
			f, ACT_PROPOSE_SELF, "the standby host has fallen silent");
	if (f->ack_overdue)
		return propose_if_quorate(
			f, ACT_PROPOSE_SELF, "the standby is connected but acknowledges nothing");
	return act(ACT_CONTINUE, "protected");
}

/* The primary is given the time to go on alone, as long as anybody has a sign of life of it. */
static bool primary_goes_first(const struct decide_facts *f, const struct decide_config *c)
{
	if (f->since_link_down >= c->head_start)
		return false;
	return f->others_hear_peer || !f->peer_suspected;
}

static struct decision decide_standby(const struct decide_facts *f, const struct decide_config *c)
{
	switch (f->ownership) {
	case OWN_LOST:
		return act(ACT_DESTROY,
			"a newer record does not name this host: its image is worthless");
	case OWN_ALONE:
		if (!f->image_complete)
			return act(ACT_HOLD,
				"this host owns the VM but has no whole image of it: start the "
				"VM anew, or bring back the host that had it");
		return act(ACT_ACTIVATE, "this host owns the VM now: taking over");
	case OWN_UNDECIDED:
		return act(ACT_HOLD, "the voters have not decided yet: acknowledging nothing");
	case OWN_CURRENT:
		break;
	}
	if (f->peer_left)
		return act(ACT_DESTROY, "the primary ended the protection in order");
	bool trouble = !f->link_up || f->peer_suspected;
	if (!f->image_complete)
		return f->link_up ? act(ACT_CONTINUE, "receiving the first image")
				  : act(ACT_DESTROY,
					    "the connection was lost before the image was whole");
	if (!trouble)
		return act(ACT_CONTINUE,
			f->guest_gone
				? "the standby QEMU is to be restarted; the image is not affected"
				: "protecting");
	if (primary_goes_first(f, c))
		return act(ACT_WAIT, "the primary seems to live: it may go on alone first");
	if (!c->automatic)
		return act(ACT_HOLD,
			"the primary is lost, and failover is manual: 'mcctl takeover' decides");
	return propose_if_quorate(f, ACT_PROPOSE_SELF,
		f->peer_suspected ? "the primary host has fallen silent"
				  : "the primary is disconnected and did not go on alone in time");
}

struct decision decide(const struct decide_facts *f, const struct decide_config *c)
{
	return f->role == DECIDE_PRIMARY ? decide_primary(f) : decide_standby(f, c);
}

const char *decide_action_name(enum decide_action a)
{
	static const char *const names[] = {
		[ACT_CONTINUE] = "continue",
		[ACT_HOLD] = "hold",
		[ACT_PROPOSE_SELF] = "propose-self",
		[ACT_HAND_OVER] = "hand-over",
		[ACT_ACTIVATE] = "activate",
		[ACT_RELEASE] = "release",
		[ACT_DESTROY] = "destroy",
		[ACT_WAIT] = "wait",
	};
	return (size_t)a < sizeof names / sizeof *names ? names[a] : "?";
}
