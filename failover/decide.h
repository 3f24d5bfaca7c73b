/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The decisions of failover as one pure function: facts in, action and reason out.  It reads no
 * clock, does no I/O and keeps no state.  Both roles gather the facts, ask here, and do what the
 * answer says and nothing else (mcd/vm/settle.c, primary/ends.c, standby/ends.c): so the table in
 * tests/unit/failover/test-decide.c tests what runs, and failover/README.md says how the model's
 * steps map to it.
 */
#pragma once
#include "failover/vote.h"

#include <stdbool.h>
#include <stdint.h>

enum decide_role { DECIDE_PRIMARY, DECIDE_STANDBY };

/* Why a protection ended, as its primary knows it. */
enum session_end {
	END_NONE,        /* it has not */
	END_PEER_SILENT, /* the keep-alives of the standby's host stopped */
	END_ACK_OVERDUE, /* the standby is connected, and acknowledges nothing */
	END_LINK,        /* the replication connection, or the standby said why it ends it */
	END_RECORD,      /* a newer ownership record exists */
	END_GUEST_OFF,   /* the guest powered off, and its last words are acknowledged */
	END_GUEST_GONE,  /* QEMU ended by itself */
	END_GUEST_HUNG,  /* QEMU is there, and answers nothing */
	END_OUTPUT_LOST, /* held output was lost: not what an administrator calls protected */
	END_QUIT,        /* mcd ends, the guest goes on */
	END_CALL,        /* a verb of the administrator */
	END_DISKS,       /* the mirror of the disks, or the stream of their writes, broke */
	END_FAULT,       /* QEMU or this host failed us */
	END_RESTART,     /* this mcd is new, and found the VM running */
	END_MAX,
};

/* What this host knows of the decided ownership record, beside the one that a session runs
 * under. */
enum decide_ownership {
	OWN_CURRENT, /* nothing newer was decided that changes our part */
	OWN_LOST,    /* the VM was given to another host, or we are not its standby any more */
	OWN_ALONE,   /* {self, none} was decided */
	OWN_NOBODY,  /* {none, none} was decided: the VM is off */
	OWN_UNKNOWN, /* what is known here may be behind: a majority has to be asked */
	OWN_MAX,
};

struct decide_facts {
	enum decide_role role;
	enum decide_ownership ownership;
	bool proposed;   /* we proposed, and do not know the outcome yet */
	bool quorate;    /* the cluster's gate; true where there is no cluster manager */
	bool leaving;    /* mcd ends */
	bool guest_gone; /* the QEMU of our copy has ended */

	/* of a primary */
	enum session_end end;
	/* the record names the peer: it has a whole image and may go on from it */
	bool peer_named;
	bool operator_stops; /* stop --force: the operator wants this copy gone */
	bool keeps_disks;    /* it has disks, and the newest are on this host: who may start it is
				not anybody */

	/* of a standby */
	bool link_open;        /* the replication connection is not known to be broken */
	bool data_flows;       /* ... and something came over it not long ago */
	bool peer_suspected;   /* k keep-alives in a row missed */
	bool others_hear_peer; /* another voter heard the peer within the suspicion time */
	bool peer_left;        /* it ended the protection in order */
	bool image_complete;   /* an epoch is committed, and the record names us */
	/* an epoch is committed, and the record that may name us is not known */
	bool naming_open;
	bool superseded; /* the primary offers another session: this one will not be named */
	/* a majority was asked since, and knows of no record that names us */
	bool answered;
	bool operator_wants;      /* mcctl takeover: where failover is manual, this is the word */
	uint64_t since_link_down; /* ns; 0 while the link is up */
};

struct decide_config {
	uint64_t head_start; /* ns that a standby grants a primary that others still hear */
	/* ns after which a primary that lives has long decided whether we are named */
	uint64_t unnamed_wait;
	bool automatic; /* failover = automatic; false: only an operator promotes */
};

enum decide_action {
	ACT_CONTINUE,     /* go on as we are */
	ACT_WAIT,         /* somebody else's turn, or a moment more: then decide again */
	ACT_HOLD,         /* nothing may be done: keep paused and held, decide again */
	ACT_LOOK,         /* ask a majority for the newest record, then decide again */
	ACT_PROPOSE_SELF, /* propose {self, none}: go on unprotected, or take over */
	ACT_PROPOSE_NONE, /* propose {none, none}: the guest powered off, and has no disks */
	ACT_HAND_OVER,    /* primary whose QEMU ended: propose {peer, none} */
	ACT_ACTIVATE,     /* standby that won: finish applying, load, run */
	ACT_RELEASE,      /* primary that won: let held output out, run unprotected */
	ACT_BURY,         /* primary that won, without a guest: nobody goes on */
	ACT_STOP,         /* the guest powered off, and no other host goes on: forget our copy */
	ACT_DESTROY,      /* lost: destroy our copy, drop what is held */
	ACT_LEAVE,        /* mcd ends: leave everything as it is, held */
	ACT_MAX,
};

struct decision {
	enum decide_action action;
	const char *reason; /* a sentence, a string constant, for logs and events */
};

struct decision decide(const struct decide_facts *f, const struct decide_config *c);
const char *decide_action_name(enum decide_action a);
/* "peer-silent", ...: part of the control protocol */
const char *session_end_name(enum session_end e);

/* Whether the replication connection counts as one, by these facts of a standby. */
bool decide_link_up(const struct decide_facts *f);

/* The newest record against a session of `generation`, whose record is the first that can change
 * the part of `self` in it. */
enum decide_ownership decide_ownership(
	const struct own_record *newest, uint64_t generation, const char *self);
