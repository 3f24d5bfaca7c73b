/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The decisions of failover as one pure function: facts in, action and reason out.  It reads no
 * clock, does no I/O and keeps no state, so that the table in tests/unit/failover can hold it to
 * every case of DESIGN's "when things die", and a model can be checked against it.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum decide_role { DECIDE_PRIMARY, DECIDE_STANDBY };

/* What this host knows of the decided ownership record. */
enum decide_ownership {
	OWN_CURRENT,   /* the newest record we know is the one we act under */
	OWN_LOST,      /* a newer record gives the VM to another host, or drops us as standby */
	OWN_ALONE,     /* a newer record makes us sole owner {self, none} */
	OWN_UNDECIDED, /* we proposed and do not know the outcome yet */
};

struct decide_facts {
	enum decide_role role;
	enum decide_ownership ownership;
	bool link_up;          /* the replication connection */
	bool ack_overdue;      /* primary: an epoch waits for its ACK longer than timing allows */
	bool peer_suspected;   /* k keep-alives in a row missed */
	bool peer_left;        /* the peer said goodbye in order (planned unprotect / shutdown) */
	bool others_hear_peer; /* another voter heard the peer within the suspicion time */
	uint64_t since_link_down; /* ns; 0 while the link is up */
	bool image_complete; /* standby: a committed epoch exists and we are named in the record */
	bool quorate;        /* the cluster gate; true where there is no cluster manager */
	bool guest_gone;     /* QEMU of our copy has exited or crashed */
};

struct decide_config {
	uint64_t head_start; /* ns that the standby grants a primary that others still hear */
	bool automatic; /* failover = automatic; false: only an operator or cluster manager promotes
			 */
};

enum decide_action {
	ACT_CONTINUE,     /* go on as we are */
	ACT_HOLD,         /* keep paused/held, keep asking, raise the alarm */
	ACT_PROPOSE_SELF, /* propose {self, none}: go on unprotected, or take over */
	ACT_HAND_OVER,    /* primary whose guest crashed: propose {peer, none} */
	ACT_ACTIVATE,     /* standby that won: finish applying, load, run */
	ACT_RELEASE,      /* primary that won: let held output out, run unprotected */
	ACT_DESTROY,      /* lost: destroy our copy, drop what is held */
	ACT_WAIT,         /* give the other side its head start, then decide again */
};

struct decision {
	enum decide_action action;
	const char *reason; /* a sentence, a string constant, for logs and events */
};

struct decision decide(const struct decide_facts *f, const struct decide_config *c);
const char *decide_action_name(enum decide_action a);
