/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Order of the questions, for both roles: first what is decided (it is a fact, whatever the network
 * looks like), then whether we are to go, then what we ourselves began, then whether anything is
 * wrong, then who goes first, and last whether we may ask at all.
 */
#include "failover/decide.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

static struct decision act(enum decide_action action, const char *reason)
{
	return (struct decision){action, reason};
}

static struct decision propose_if_quorate(
	const struct decide_facts *f, enum decide_action action, const char *reason)
{
	if (!f->quorate)
		return act(ACT_HOLD,
			"this host is cut off from the cluster's quorate part: holding until it is "
			"back");
	return act(action, reason);
}

static const char *why_alone(enum session_end end)
{
	static const char *const reasons[END_MAX] = {
		[END_PEER_SILENT] = "the standby host has fallen silent",
		[END_ACK_OVERDUE] = "the standby is connected but acknowledges nothing",
		[END_LINK] = "the replication connection is lost",
		[END_RECORD] = "a newer record may exist: the voters say whose the VM is",
		[END_GUEST_GONE] = "QEMU has exited and no standby is named to go on",
		[END_GUEST_HUNG] = "QEMU does not answer and no standby is named to go on",
		[END_OUTPUT_LOST] = "held output was lost: the VM is not protected as promised",
		[END_QUIT] = "mcd was to end, and goes on",
		[END_CALL] = "the administrator ends the protection",
		[END_DISKS] = "the mirror of the disks is broken",
		[END_FAULT] = "QEMU or this host failed the checkpoints",
		[END_RESTART] = "mcd was restarted: what happened meanwhile is not known here",
	};
	assert(reasons[end]);
	return reasons[end];
}

static struct decision decide_primary(const struct decide_facts *f)
{
	switch (f->ownership) {
	case OWN_LOST:
		return act(ACT_DESTROY,
			"the VM is owned by another host now: this copy must not be seen");
	case OWN_NOBODY:
		return f->end == END_GUEST_OFF
			       ? act(ACT_STOP, "the guest powered off, and nobody owns it any more")
			       : act(ACT_DESTROY, "nobody owns the VM any more: it was stopped");
	case OWN_ALONE:
		if (f->end == END_GUEST_OFF)
			return act(ACT_STOP,
				"the guest powered off, and its standby is dropped: it is off");
		return f->guest_gone
			       ? act(ACT_BURY, "QEMU has exited and there is no standby to go on")
			       : act(ACT_RELEASE,
					 "this host owns the VM alone: output may leave, it runs "
					 "unprotected");
	case OWN_UNKNOWN:
		if (!f->leaving)
			return act(ACT_LOOK, "whose the VM is has to be asked");
		break;
	default:
		assert(f->ownership == OWN_CURRENT);
	}
	if (f->leaving)
		return act(ACT_LEAVE, "mcd ends: what is held stays held");
	if (f->operator_stops)
		return act(ACT_DESTROY, "stopped by force while ownership was undecided");
	if (f->end == END_NONE && !f->proposed)
		return act(ACT_CONTINUE, "protected");
	/* With disks it stays this host's: from older ones, elsewhere, it must not start. */
	if (f->end == END_GUEST_OFF)
		return propose_if_quorate(f, f->keeps_disks ? ACT_PROPOSE_SELF : ACT_PROPOSE_NONE,
			"the guest powered off: nobody is to go on");
	/* Also while {self, none} is asked for: the voters decide one of the two. */
	if (f->guest_gone && f->peer_named)
		return propose_if_quorate(f, ACT_HAND_OVER,
			"QEMU has exited: the standby goes on from its last epoch");
	/* It may answer again later: by then it is decided, and its output was never let out. */
	if (f->end == END_GUEST_HUNG && f->peer_named)
		return propose_if_quorate(f, ACT_HAND_OVER,
			"QEMU does not answer: the standby goes on from its last epoch");
	/* Even if the standby is back, once we proposed: the record that drops it may be
	 * decided. */
	return propose_if_quorate(f, ACT_PROPOSE_SELF,
		f->proposed ? "the voters have not decided yet: output stays held"
			    : why_alone(f->end));
}

/* A connection to a host that lost its power looks as good as ever.  So the link of a suspected
 * primary counts only while others hear that host and its data still comes. */
bool decide_link_up(const struct decide_facts *f)
{
	return f->link_open && (!f->peer_suspected || (f->others_hear_peer && f->data_flows));
}

/* The primary is given the time to go on alone, as long as anybody has a sign of life of it. */
static bool primary_goes_first(const struct decide_facts *f, const struct decide_config *c)
{
	if (f->since_link_down >= c->head_start)
		return false;
	return f->others_hear_peer || !f->peer_suspected;
}

/* The record that names us may be decided without our knowing: a committed image is not thrown away
 * before a record says that it is not needed.  Unless the primary lives and has moved on, or has
 * had the time to. */
static bool may_still_be_named(const struct decide_facts *f, const struct decide_config *c)
{
	bool had_time = f->answered && !f->link_open && f->since_link_down > c->unnamed_wait &&
			!f->peer_suspected;
	return f->naming_open && !f->superseded && !had_time;
}

static struct decision decide_standby(const struct decide_facts *f, const struct decide_config *c)
{
	switch (f->ownership) {
	case OWN_LOST:
	case OWN_NOBODY:
		return act(ACT_DESTROY,
			"a newer record does not name this host: its image is worthless");
	case OWN_ALONE:
		if (f->image_complete)
			return act(ACT_ACTIVATE, "this host owns the VM now: taking over");
		return f->leaving ? act(ACT_LEAVE, "mcd ends")
				  : act(ACT_HOLD, "this host owns the VM but has no whole image of "
						  "it: start the VM anew, or bring back the host "
						  "that had it");
	case OWN_UNKNOWN:
		if (!f->leaving)
			return act(ACT_LOOK, "whether this host is named has to be asked");
		break;
	default:
		assert(f->ownership == OWN_CURRENT);
	}
	if (f->leaving)
		return act(ACT_LEAVE, "mcd ends");
	if (f->proposed) /* the outcome must become known, whatever has changed since */
		return propose_if_quorate(f, ACT_PROPOSE_SELF,
			"the voters have not decided yet: acknowledging nothing");
	if (f->peer_left)
		return act(ACT_DESTROY, "the primary ended the protection in order");
	bool up = decide_link_up(f);
	if (!f->image_complete && up)
		return act(ACT_CONTINUE, "receiving the first image");
	if (!f->image_complete)
		return may_still_be_named(f, c)
			       ? act(ACT_WAIT,
					 "not known yet whether this host was named the standby")
			       : act(ACT_DESTROY,
					 "the connection was lost before the image was whole");
	if (up)
		return act(ACT_CONTINUE,
			f->guest_gone
				? "the standby QEMU is to be restarted; the image is not affected"
				: "protecting");
	if (primary_goes_first(f, c))
		return act(ACT_WAIT, "the primary seems to live: it may go on alone first");
	if (!c->automatic && !f->operator_wants)
		return act(ACT_HOLD,
			"the primary is lost, and failover is manual: 'mcctl takeover' decides");
	return propose_if_quorate(f, ACT_PROPOSE_SELF,
		f->peer_suspected ? "the primary host has fallen silent"
				  : "the primary is disconnected and did not go on alone in time");
}

struct decision decide(const struct decide_facts *f, const struct decide_config *c)
{
	struct decision d = f->role == DECIDE_PRIMARY ? decide_primary(f) : decide_standby(f, c);
	/* failover/README.md 13 and 14: nothing becomes visible before it is decided. */
	assert(d.action != ACT_RELEASE || (f->role == DECIDE_PRIMARY && f->ownership == OWN_ALONE));
	assert(d.action != ACT_ACTIVATE ||
		(f->role == DECIDE_STANDBY && f->ownership == OWN_ALONE && f->image_complete));
	return d;
}

enum decide_ownership decide_ownership(
	const struct own_record *newest, uint64_t generation, const char *self)
{
	if (newest->generation < generation)
		return OWN_CURRENT;
	if (!newest->owner[0])
		return OWN_NOBODY;
	if (!strcmp(newest->owner, self))
		return newest->standby[0] ? OWN_CURRENT : OWN_ALONE;
	return !strcmp(newest->standby, self) ? OWN_CURRENT : OWN_LOST;
}

const char *decide_action_name(enum decide_action a)
{
	static const char *const names[ACT_MAX] = {
		[ACT_CONTINUE] = "continue",
		[ACT_WAIT] = "wait",
		[ACT_HOLD] = "hold",
		[ACT_LOOK] = "look",
		[ACT_PROPOSE_SELF] = "propose-self",
		[ACT_PROPOSE_NONE] = "propose-none",
		[ACT_HAND_OVER] = "hand-over",
		[ACT_ACTIVATE] = "activate",
		[ACT_RELEASE] = "release",
		[ACT_BURY] = "bury",
		[ACT_STOP] = "stop",
		[ACT_DESTROY] = "destroy",
		[ACT_LEAVE] = "leave",
	};
	return (size_t)a < ACT_MAX ? names[a] : "?";
}

const char *session_end_name(enum session_end e)
{
	static const char *const names[END_MAX] = {
		[END_NONE] = "none",
		[END_PEER_SILENT] = "peer-silent",
		[END_ACK_OVERDUE] = "ack-overdue",
		[END_LINK] = "link",
		[END_RECORD] = "record",
		[END_GUEST_OFF] = "guest-off",
		[END_GUEST_GONE] = "guest-gone",
		[END_GUEST_HUNG] = "guest-hung",
		[END_OUTPUT_LOST] = "output-lost",
		[END_QUIT] = "quit",
		[END_CALL] = "call",
		[END_DISKS] = "disks",
		[END_FAULT] = "fault",
		[END_RESTART] = "restart",
	};
	return (size_t)e < END_MAX ? names[e] : "?";
}
