/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by vote.c (answering, disk, life) and propose.c (asking). */
#pragma once
#include "failover/mesh.h"
#include "failover/record.h"
#include "failover/vote.h"

struct vm {
	struct vm *next;
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
	struct vm *vms;
	size_t n_vms;
	struct serving *serving;
	unsigned callers; /* threads inside voter_propose and friends */
	uint64_t random;
	enum paxos_refusal refusal[VOTERS_MAX + 1]; /* last one by node, to log it once */
};

/* NULL if the name cannot be one, is unknown (without create), or there are too many. */
struct vm *vm_get(struct voter *v, const char *name, bool create);
void vm_known(struct voter *v, struct vm *vm, struct own_record *ret);
/* Somebody told us a decided record. */
void vm_learn(struct voter *v, struct vm *vm, const struct own_record *rec);
/* Our own acceptor's answer, on disk when this returns. */
void vm_answer(struct voter *v, struct vm *vm, const char *from, const struct paxos_msg *req,
	struct paxos_msg *ret);
void vm_request(
	struct voter *v, const struct vm *vm, const struct paxos_msg *req, struct vote_msg *ret);
bool vote_may_grant(struct voter *v);
const char *vote_refusal_text(enum paxos_refusal r);
