/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Shared by vote.c (life, answering, disk) and propose.c (asking), and by what both stand on:
 * voter-vms.c and voter-turn.c.
 *
 * Locks, in this order: vm->lock (held across disk writes), voter->lock (never held across anything
 * slow), the mesh's own.
 */
#pragma once
#include "failover/mesh.h"
#include "failover/record.h"
#include "failover/vote.h"

struct voter_vm {
	struct voter_vm *next;
	char name[LINK_NAME_MAX + 1];
	bool proposing;       /* under voter->lock: one proposal of this host at a time, because
			       * two of them would share ballots */
	pthread_mutex_t lock; /* the next three; held across disk writes */
	struct paxos_acceptor state;
	struct record_file file;
	bool broken;             /* the disk failed: no promise can be kept, none is made */
	struct own_record known; /* under voter->lock: newest decided, may be ahead of state */
	bool unsynced;           /* under voter->lock: known is to be put on disk */
};

struct serving;

struct voter {
	struct voter_config
		cfg; /* pointers in it are the caller's; only the callbacks are used later */
	struct paxos_group group;
	uint64_t group_id;
	unsigned self;
	const char *self_name;
	int dir;
	struct mesh *mesh;
	pthread_t sync_thread;
	bool sync_started;
	pthread_mutex_t lock;
	pthread_cond_t cond; /* unsynced, closing, serving, callers, proposing: always broadcast */
	bool closing;
	struct voter_vm *vms;
	size_t n_vms;
	struct serving *serving;
	unsigned callers; /* threads inside voter_propose and friends */
	uint64_t random;
	enum paxos_refusal refusal[VOTERS_MAX + 1]; /* last one by node, to log it once */
};

/* voter-vms.c */

/* NULL if the name cannot be one, is unknown (without create), or there are too many. */
struct voter_vm *voter_vm_get(struct voter *v, const char *name, bool create);
void voter_vm_known(struct voter *v, struct voter_vm *vm, struct own_record *ret);
/* Somebody told us a decided record. */
void voter_vm_learn(struct voter *v, struct voter_vm *vm, const struct own_record *rec);
bool voter_may_grant(struct voter *v);
/* A request about this VM, as it travels. */
void voter_vm_request(struct voter *v, const struct voter_vm *vm, const struct paxos_msg *req,
	struct vote_msg *ret);

/* voter-turn.c */

/* Around every call from outside: voter_close waits for those inside. */
void voter_enter(struct voter *v);
void voter_leave(struct voter *v);
/* Our turn to propose for this VM; false when the deadline came first. */
bool voter_take_turn(struct voter *v, struct voter_vm *vm, uint64_t deadline);
void voter_end_turn(struct voter *v, struct voter_vm *vm);
/* Waits until we may ask, or need not any more because that generation is known, or the
 * deadline. */
bool voter_wait_for_gate(
	struct voter *v, struct voter_vm *vm, uint64_t generation, uint64_t deadline);
/* -ENOLINK, with who is not connected. */
int voter_no_majority(struct voter *v, const char *vm, struct mc_error *err);

/* vote.c */

/* Our own acceptor's answer, on disk when this returns. */
void voter_vm_answer(struct voter *v, struct voter_vm *vm, const char *from,
	const struct paxos_msg *req, struct paxos_msg *ret);
