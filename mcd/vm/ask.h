/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * "Ask until it is decided": the one loop in which both roles live between the end of a protection
 * and the decision of who goes on.  It gathers the facts, asks failover/decide.c, does what the
 * answer says to the voters, and returns with the answer that is an end of it.
 */
#pragma once
#include "failover/decide.h"

#include <stdbool.h>
#include <stdint.h>

struct vm;
struct vm_question;

/* What a role brings along. */
struct vm_asker {
	/* Fills in the facts that the role knows; the others are there already: role, ownership,
	 * proposed, quorate, leaving, guest_gone. */
	void (*gather)(struct vm_question *q, struct decide_facts *f);
	/* Once, if it is not decided at the first look: d says what is to be asked or waited
	 * for. */
	void (*begin)(struct vm_question *q, const struct decision *d);
	/* Before each word to the voters. */
	void (*before)(struct vm_question *q, const struct decision *d);
	/* Nobody could decide, as `what` says: an alarm. */
	void (*stuck)(struct vm_question *q, const struct decision *d, const char *what);
	/* Between two looks: takes the bell, serves calls. */
	void (*listen)(struct vm_question *q);
};

struct vm_question {
	const struct vm_asker *asker;
	struct vm *vm;
	enum decide_role role;
	struct decide_config config;
	uint64_t generation; /* of the session: decide_ownership */
	const char *peer;    /* the other host of it; whom ACT_HAND_OVER makes owner */
	uint64_t pause;      /* ns between two looks */
	/* what came of it so far */
	bool look;     /* gather: while waiting a majority is asked for the newest record */
	bool answered; /* ... and it answered */
	bool proposed, won;
};

/* CONTINUE, ACTIVATE, RELEASE, BURY, STOP, DESTROY or LEAVE: what the role has to do now. */
struct decision vm_ask(struct vm_question *q);
