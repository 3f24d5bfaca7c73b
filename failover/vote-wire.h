/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What travels on a LINK_VOTE connection: requests of the connector, one answer to each. */
#pragma once
#include "failover/paxos.h"

#define VOTE_MSG_SIZE      512
#define VOTE_HEARD_REQUEST 5  /* beside enum paxos_type: how long ago did you hear `subject`? */
#define VOTE_HEARD_ANSWER  23 /* number = ns, UINT64_MAX = never */

struct vote_msg {
	uint64_t id;     /* chosen by the connector, repeated in the answer; 0 = nobody waits */
	uint64_t group;  /* vote_group_id of the sender's list of voters */
	uint64_t list;   /* its number */
	uint64_t number; /* VOTE_HEARD_ANSWER */
	char subject[LINK_NAME_MAX + 1]; /* VM; VOTE_HEARD_*: host */
	struct paxos_msg paxos;          /* .type also says VOTE_HEARD_* */
};

/* Encoding of records and ballots, shared with record.c: the disk has them as the wire does. */
#define VOTE_RECORD_SIZE 136
#define VOTE_BALLOT_SIZE 16
void vote_put_record(uint8_t p[VOTE_RECORD_SIZE], const struct own_record *r);
bool vote_get_record(struct own_record *ret, const uint8_t p[VOTE_RECORD_SIZE]);
void vote_put_ballot(uint8_t p[VOTE_BALLOT_SIZE], const struct ballot *b);
bool vote_get_ballot(struct ballot *ret, const uint8_t p[VOTE_BALLOT_SIZE]);
/* As version 1 of both formats had it: it becomes one of an unknown host. */
bool vote_get_ballot_v1(struct ballot *ret, const uint8_t p[VOTE_BALLOT_SIZE]);
void vote_put_name(uint8_t p[LINK_NAME_MAX + 1], const char *name);
bool vote_get_name(char ret[LINK_NAME_MAX + 1], const uint8_t p[LINK_NAME_MAX + 1]);

/* Why a voter refuses, as a sentence about it. */
const char *vote_refusal_text(enum paxos_refusal r);

/* A name that may become a file name: printable, no '/', not empty, no '.' in front. */
bool vote_name_valid(const char *name);

/* A digest of the list's number and the voters' names: hosts that disagree about who votes must not
 * count together. */
uint64_t vote_group_id(const struct paxos_group *g);

void vote_encode(uint8_t p[VOTE_MSG_SIZE], const struct vote_msg *m);
/* False if any field is not what vote_encode would have written. */
bool vote_decode(struct vote_msg *ret, const uint8_t p[VOTE_MSG_SIZE]);
/* Not decoded, because an mcd of another version has sent it. */
bool vote_other_version(const uint8_t p[VOTE_MSG_SIZE]);
