/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pure core of voting: single-decree Paxos per generation of one VM's ownership record.  No
 * I/O, no clock, no memory of its own: vote.c drives it over sockets and disks, the simulation in
 * tests/unit/failover over a network that loses, repeats and reorders.
 *
 * Generation g+1 is voted on only by those who know record g to be decided, so a voter keeps the
 * state of one open generation: decided.generation + 1.  Learning a newer decided record closes it
 * and opens the next.
 */
#pragma once
#include "failover/vote.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The voters, sorted by name.  Their numbers (node = index + 1) are this list's own, and never
 * leave it: another list numbers the same hosts otherwise. */
struct paxos_group {
	size_t n;
	char names[VOTERS_MAX][LINK_NAME_MAX + 1];
	uint64_t ids[VOTERS_MAX]; /* paxos_host_id of the names */
	uint64_t number;          /* of the list: grows by one with each change; 0: mcd.conf's */
	uint64_t since;           /* what was accepted under a list before this one is void */
};

/* Ordered by round, then host; no two hosts share one, whatever lists they vote in.  Round 0 is the
 * fast ballot: it belongs to the standby named in the record before, which has one value only to
 * propose in it ({itself, none}), and so needs no promises: a takeover is one round trip and one
 * disk write. */
struct ballot {
	uint64_t round;
	uint64_t host; /* paxos_host_id of whose it is; 0 = no ballot */
};

/* A ballot that an mcd wrote which numbered the hosts by their place in a list: whose it was is not
 * known any more, its place (1..VOTERS_MAX) is.  Above every host's ballot of its round, among
 * themselves in the order that they had, and equal to none: not even to its like. */
#define BALLOT_UNKNOWN      (UINT64_MAX - 255)
#define BALLOT_BY_PLACE(at) (BALLOT_UNKNOWN + (at))
static inline bool ballot_unknown(const struct ballot *b)
{
	return b->host >= BALLOT_UNKNOWN;
}

/* A voter's memory of one VM.  All of it must be on disk before an answer that follows from it. */
struct paxos_acceptor {
	struct own_record decided; /* newest decided record known */
	struct ballot promised;    /* for generation decided + 1: nothing below is accepted */
	struct ballot accepted;    /* host 0 = nothing accepted */
	struct own_record value;   /* what was accepted in that ballot */
	uint64_t list;             /* number of the list of voters under which it was accepted */
};

enum paxos_type {
	/* requests */
	PAXOS_PREPARE = 1,
	PAXOS_ACCEPT = 2,
	PAXOS_DECIDED = 3, /* value is decided */
	PAXOS_QUERY = 4,
	/* answers */
	PAXOS_PROMISE = 17, /* accepted, value: what the voter accepted before */
	PAXOS_ACCEPTED = 18,
	PAXOS_REJECTED = 19, /* promised: the higher ballot in the way */
	PAXOS_STALE = 20,    /* decided is newer than the proposer's */
	PAXOS_REFUSED = 21,  /* refusal says why */
	PAXOS_CURRENT = 22,  /* answer to DECIDED and QUERY */
};

enum paxos_refusal {
	PAXOS_NOT_ELIGIBLE = 1, /* the proposer may not propose this after that record */
	PAXOS_CONFLICT = 2, /* contradicts what this voter knows as decided: must never happen */
	PAXOS_MALFORMED = 3,
	PAXOS_OTHER_VOTERS = 4, /* (vote.c) the two hosts have different lists of voters */
	PAXOS_DISK = 5,         /* (vote.c) this voter cannot keep its word: its disk failed */
	/* (vote.c) outside the cluster's quorate part: as good as silence */
	PAXOS_NOT_QUORATE = 6,
};

struct paxos_msg {
	enum paxos_type type;
	enum paxos_refusal refusal;
	struct own_record
		decided;         /* request: the record before; answer: newest known to the voter */
	struct ballot ballot;    /* of the proposer; repeated in the answer */
	struct ballot promised;  /* answers only */
	struct ballot accepted;  /* answers only */
	struct own_record value; /* ACCEPT, DECIDED: the new record; answers: the accepted one */
};

/* The order.  0 also for two ballots of unknown hosts at the same place: ask ballot_same. */
int ballot_compare(const struct ballot *a, const struct ballot *b);
/* One ballot, of one host. */
bool ballot_same(const struct ballot *a, const struct ballot *b);
/* A number for that host which is the same on all hosts and in all lists: the first 8 bytes of the
 * SHA-256 of its name, padded to 64 bytes, but never 0 and never BALLOT_UNKNOWN or above. */
uint64_t paxos_host_id(const char *name);
bool own_record_equal(const struct own_record *a, const struct own_record *b);
/* Well-formed by itself: terminated names, no owner means no standby, they differ, generation 0 is
 * empty. */
bool own_record_valid(const struct own_record *r);

void paxos_group_init(struct paxos_group *g, const struct voter_peer *voters, size_t n);
/* Two names that have the same id, by their indexes: they cannot vote in one list. */
bool paxos_group_collides(const struct paxos_group *g, size_t *ret_a, size_t *ret_b);
unsigned paxos_group_node(const struct paxos_group *g, const char *name); /* 0 = not a voter */
static inline size_t paxos_majority(const struct paxos_group *g)
{
	return g->n / 2 + 1;
}

/* May `who` be the origin of record `next` after the decided record `before`? */
bool paxos_allowed(const struct paxos_group *g, const struct own_record *before, const char *who,
	const struct own_record *next);

/* Takes over a decided record if it is newer.  Returns whether the state changed. */
bool paxos_learn(struct paxos_acceptor *a, const struct own_record *decided);

/* A voter's answer to a request of host `from` (authenticated by the caller).  Returns whether the
 * state changed, in which case it must be on disk before the answer is sent. */
bool paxos_answer(struct paxos_acceptor *a, const struct paxos_group *g, const char *from,
	const struct paxos_msg *req, struct paxos_msg *ret_answer);

struct paxos_proposer {
	const struct paxos_group *group;
	unsigned self;              /* our node */
	struct own_record before;   /* decided */
	struct own_record want;     /* what we would like */
	struct own_record value;    /* what we must propose in this round */
	struct ballot ballot, best; /* best: highest accepted ballot seen in promises */
	bool preparing;             /* phase 1; false: phase 2 */
	bool torn;                  /* best is of unknown hosts, and has two values */
	uint32_t yes;               /* bit per node: promised / accepted in this phase */
	uint64_t highest;           /* round seen anywhere */
	struct own_record newer;    /* after PAXOS_OVERTAKEN */
};

enum paxos_step {
	PAXOS_WAIT,      /* wait for more answers */
	PAXOS_SEND,      /* next phase: send paxos_request() to every voter */
	PAXOS_LOST,      /* the round is lost: back off, then paxos_new_round() */
	PAXOS_CHOSEN,    /* p->value is decided */
	PAXOS_OVERTAKEN, /* p->newer is a newer decided record */
};

/* Begins to propose `want` (allowed to us after `before`).  own_round: highest round in our own
 * acceptor's promise. */
void paxos_start(struct paxos_proposer *p, const struct paxos_group *g, unsigned self,
	const struct own_record *before, const struct own_record *want, uint64_t own_round);
/* The next try, with promises. */
void paxos_new_round(struct paxos_proposer *p, uint64_t own_round);
/* The request of the running phase, the same for all voters. */
void paxos_request(const struct paxos_proposer *p, struct paxos_msg *ret);
/* An answer to that request (the caller drops answers to earlier ones). */
enum paxos_step paxos_on_answer(struct paxos_proposer *p, unsigned node, const struct paxos_msg *m);

/* What the PAXOS_CURRENT answers of a majority prove: the newest decided record among them, or the
 * next one if a majority of the group accepted it in the same ballot (it is decided then, even if
 * nobody was told). */
void paxos_read(const struct paxos_group *g, const struct paxos_msg *answers, size_t n,
	struct own_record *ret);
