/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Why this is Paxos, and what is special (README.md has the argument as a whole):
 *
 * 1. A voter never accepts below its promise, and reports what it accepted when it promises.
 * 2. A proposer with promises of a majority proposes the value accepted in the highest ballot
 *    among them, its own only if there is none.
 * 3. A ballot carries one value for ever.  Round 0 can carry one value only, by eligibility.  For
 *    the others the proposer's own voter is among the promising ones before anything is accepted:
 *    its promise is on disk, and a restarted proposer starts above it.
 * 4. Requests carry the decided record before; a voter that is behind learns it from them, a
 *    proposer that is behind is told the newer one.
 */
#include "failover/paxos.h"
#include "common/be.h"

#include <assert.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>

/* Rounds grow by one per lost round; more than this is not an honest count but a broken sender,
 * and accepting it would leave no room above. */
#define ROUND_MAX (UINT64_C(1) << 48)

_Static_assert(VOTERS_MAX < 31, "a node's number is a bit of 32, and 0 is none");

int ballot_compare(const struct ballot *a, const struct ballot *b)
{
	if (a->round != b->round)
		return a->round < b->round ? -1 : 1;
	return (a->host > b->host) - (a->host < b->host);
}

bool ballot_same(const struct ballot *a, const struct ballot *b)
{
	return ballot_compare(a, b) == 0 && !ballot_unknown(a);
}

uint64_t paxos_host_id(const char *name)
{
	uint8_t text[LINK_NAME_MAX + 1] = {0}, digest[32];
	memcpy(text, name, strnlen(name, LINK_NAME_MAX));
	/* A host whose ballots are another's would break what they are for. */
	if (gnutls_hash_fast(GNUTLS_DIG_SHA256, text, sizeof text, digest) < 0)
		abort();
	uint64_t id = get_be64(digest);
	return id == 0 || id >= BALLOT_UNKNOWN ? 1 : id;
}

bool own_record_equal(const struct own_record *a, const struct own_record *b)
{
	return a->generation == b->generation && !strcmp(a->owner, b->owner) &&
	       !strcmp(a->standby, b->standby);
}

bool own_record_valid(const struct own_record *r)
{
	if (!memchr(r->owner, 0, sizeof r->owner) || !memchr(r->standby, 0, sizeof r->standby))
		return false;
	if (!r->owner[0])
		return !r->standby[0];
	return r->generation > 0 && strcmp(r->owner, r->standby) != 0;
}

/* What may never happen to a voter's memory of the generation that is open, whoever asks. */
static void check_grown(const struct paxos_acceptor *was, const struct paxos_acceptor *is)
{
	assert(is->decided.generation >= was->decided.generation);
	if (is->decided.generation > was->decided.generation)
		return;
	assert(own_record_equal(&is->decided, &was->decided));
	assert(ballot_compare(&is->promised, &was->promised) >= 0);
	int order = ballot_compare(&is->accepted, &was->accepted);
	assert(order >= 0);
	assert(order > 0 || own_record_equal(&is->value, &was->value)); /* a ballot has one value */
	assert(order == 0 || ballot_compare(&is->accepted, &was->promised) >= 0);
	assert(order == 0 || is->value.generation == is->decided.generation + 1);
}

void paxos_group_init(struct paxos_group *g, const struct voter_peer *voters, size_t n)
{
	assert(n <= VOTERS_MAX);
	memset(g, 0, sizeof *g);
	for (size_t i = 0; i < n; i++) {
		size_t at = g->n++;
		for (; at > 0 && strcmp(g->names[at - 1], voters[i].name) > 0; at--)
			memcpy(g->names[at], g->names[at - 1], sizeof g->names[at]);
		memcpy(g->names[at], voters[i].name, sizeof g->names[at]);
	}
	for (size_t i = 0; i < g->n; i++)
		g->ids[i] = paxos_host_id(g->names[i]);
}

bool paxos_group_collides(const struct paxos_group *g, size_t *ret_a, size_t *ret_b)
{
	for (size_t i = 0; i < g->n; i++)
		for (size_t j = 0; j < i; j++)
			if (g->ids[i] == g->ids[j]) {
				*ret_a = j;
				*ret_b = i;
				return true;
			}
	return false;
}

unsigned paxos_group_node(const struct paxos_group *g, const char *name)
{
	for (size_t i = 0; i < g->n; i++)
		if (!strcmp(g->names[i], name))
			return (unsigned)i + 1;
	return 0;
}

/* Owner and standby of the record before; anybody when nobody owns the VM. */
static bool eligible(const struct paxos_group *g, const struct own_record *before, const char *who)
{
	if (!paxos_group_node(g, who))
		return false;
	return !before->owner[0] || !strcmp(who, before->owner) || !strcmp(who, before->standby);
}

bool paxos_allowed(const struct paxos_group *g, const struct own_record *before, const char *who,
	const struct own_record *next)
{
	if (!eligible(g, before, who) || !own_record_valid(next))
		return false;
	if (before->generation == UINT64_MAX || next->generation != before->generation + 1)
		return false;
	bool alone = !next->standby[0], mine = !strcmp(next->owner, who);
	if (strcmp(who, before->owner) != 0)
		/* A start by anyone, or a takeover by the standby: for itself, without standby. */
		return mine && alone;
	if (mine)
		return alone || paxos_group_node(g, next->standby);
	/* Stopped, or handed over to the standby, whose image is complete: nobody else's is. */
	return alone && !strcmp(next->owner, next->owner[0] ? before->standby : "");
}

/* Proposed by whom does not matter here: a proposer may have to finish another's proposal. */
static bool possible(const struct paxos_group *g, const struct own_record *before,
	const struct own_record *value)
{
	if (!before->owner[0])
		return paxos_allowed(g, before, value->owner, value);
	return paxos_allowed(g, before, before->owner, value) ||
	       paxos_allowed(g, before, before->standby, value);
}

bool paxos_learn(struct paxos_acceptor *a, const struct own_record *decided)
{
	if (decided->generation <= a->decided.generation)
		return false;
	/* What we promised and accepted belongs to a generation that is decided now. */
	*a = (struct paxos_acceptor){.decided = *decided};
	return true;
}

static enum paxos_type refuse(struct paxos_msg *answer, enum paxos_refusal why)
{
	answer->refusal = why;
	return PAXOS_REFUSED;
}

static enum paxos_type answer_prepare(struct paxos_acceptor *a, const struct paxos_msg *req,
	struct paxos_msg *answer, bool *changed)
{
	if (req->ballot.round == 0)
		return refuse(answer, PAXOS_MALFORMED);
	int order = ballot_compare(&req->ballot, &a->promised);
	if (order < 0)
		return PAXOS_REJECTED;
	if (order > 0) {
		a->promised = req->ballot;
		*changed = true;
	}
	/* Equal: the request came twice; so does the answer.  A promise to an unknown host is above
	 * all hosts' ballots of its round, so it is never equal. */
	return PAXOS_PROMISE;
}

static enum paxos_type answer_accept(struct paxos_acceptor *a, const struct paxos_group *g,
	const char *from, const struct paxos_msg *req, struct paxos_msg *answer, bool *changed)
{
	if (!possible(g, &a->decided, &req->value))
		return refuse(answer, PAXOS_NOT_ELIGIBLE);
	if (req->ballot.round == 0 &&
		(strcmp(from, a->decided.standby) != 0 || strcmp(from, req->value.owner) != 0))
		return refuse(answer, PAXOS_NOT_ELIGIBLE);
	if (ballot_compare(&req->ballot, &a->promised) < 0)
		return PAXOS_REJECTED;
	if (a->accepted.host && ballot_same(&req->ballot, &a->accepted))
		return own_record_equal(&a->value, &req->value) ? PAXOS_ACCEPTED
								: refuse(answer, PAXOS_CONFLICT);
	a->promised = a->accepted = req->ballot;
	a->value = req->value;
	a->list = g->number;
	*changed = true;
	return PAXOS_ACCEPTED;
}

static enum paxos_type answer_proposal(struct paxos_acceptor *a, const struct paxos_group *g,
	const char *from, const struct paxos_msg *req, struct paxos_msg *answer, bool *changed)
{
	unsigned node = paxos_group_node(g, from);
	if (!node || req->ballot.host != g->ids[node - 1] || req->ballot.round > ROUND_MAX)
		return refuse(answer, PAXOS_MALFORMED);
	*changed = paxos_learn(a, &req->decided);
	if (req->decided.generation < a->decided.generation)
		return PAXOS_STALE;
	if (!own_record_equal(&req->decided, &a->decided))
		return refuse(answer, PAXOS_CONFLICT);
	if (!eligible(g, &a->decided, from))
		return refuse(answer, PAXOS_NOT_ELIGIBLE);
	return req->type == PAXOS_PREPARE ? answer_prepare(a, req, answer, changed)
					  : answer_accept(a, g, from, req, answer, changed);
}

bool paxos_answer(struct paxos_acceptor *a, const struct paxos_group *g, const char *from,
	const struct paxos_msg *req, struct paxos_msg *ret_answer)
{
	struct paxos_msg answer = {.ballot = req->ballot};
	const struct paxos_acceptor was = *a;
	bool changed = false;
	switch (req->type) {
	case PAXOS_PREPARE:
	case PAXOS_ACCEPT:
		answer.type = answer_proposal(a, g, from, req, &answer, &changed);
		break;
	case PAXOS_DECIDED:
		changed = paxos_learn(a, &req->value);
		answer.type = PAXOS_CURRENT;
		if (req->value.generation == a->decided.generation &&
			!own_record_equal(&req->value, &a->decided))
			answer.type = refuse(&answer, PAXOS_CONFLICT);
		break;
	case PAXOS_QUERY:
		answer.type = PAXOS_CURRENT;
		break;
	default:
		answer.type = refuse(&answer, PAXOS_MALFORMED);
	}
	check_grown(&was, a);
	assert(answer.type != PAXOS_PROMISE || ballot_compare(&a->promised, &req->ballot) == 0);
	assert(answer.type != PAXOS_ACCEPTED || own_record_equal(&a->value, &req->value));
	answer.decided = a->decided;
	answer.promised = a->promised;
	answer.accepted = a->accepted;
	answer.value = a->value;
	*ret_answer = answer;
	return changed;
}

void paxos_new_round(struct paxos_proposer *p, uint64_t own_round)
{
	const struct ballot former = p->ballot;
	if (own_round > p->highest)
		p->highest = own_round;
	p->ballot = (struct ballot){++p->highest, p->group->ids[p->self - 1]};
	/* Above every ballot that we have used, or two values could share one. */
	assert(ballot_compare(&p->ballot, &former) > 0 && p->ballot.round > own_round);
	p->best = (struct ballot){0};
	p->value = p->want;
	p->preparing = true;
	p->torn = false;
	p->yes = 0;
}

void paxos_start(struct paxos_proposer *p, const struct paxos_group *g, unsigned self,
	const struct own_record *before, const struct own_record *want, uint64_t own_round)
{
	assert(self >= 1 && self <= g->n);
	const char *name = g->names[self - 1];
	assert(paxos_allowed(g, before, name, want));
	*p = (struct paxos_proposer){.group = g, .self = self, .before = *before, .want = *want};
	paxos_new_round(p, own_round);
	if (before->owner[0] && !strcmp(name, before->standby)) {
		/* Tried first each time: if it was promised away meanwhile it costs one round trip.
		 */
		p->ballot = (struct ballot){.round = 0, .host = g->ids[self - 1]};
		p->preparing = false;
	}
}

void paxos_request(const struct paxos_proposer *p, struct paxos_msg *ret)
{
	*ret = (struct paxos_msg){.decided = p->before, .ballot = p->ballot};
	ret->type = p->preparing ? PAXOS_PREPARE : PAXOS_ACCEPT;
	if (!p->preparing)
		ret->value = p->value;
	/* Round 0 needs no promises, because it can carry one value only. */
	assert(p->preparing ? p->ballot.round > 0
			    : p->ballot.round > 0 || own_record_equal(&p->value, &p->want));
}

static enum paxos_step on_promise(struct paxos_proposer *p, const struct paxos_msg *m)
{
	assert(p->preparing);
	int order = m->accepted.host ? ballot_compare(&m->accepted, &p->best) : -1;
	/* Two values in what was one ballot or two: nobody can know any more which is decided. */
	if (order == 0 && !own_record_equal(&m->value, &p->value))
		p->torn = true;
	if (order > 0) {
		p->best = m->accepted;
		p->value = m->value;
		p->torn = false;
	}
	/* Our own promise must be among them: see 3 above. */
	if (!(p->yes & 1u << p->self) ||
		(size_t)__builtin_popcount(p->yes) < paxos_majority(p->group) || p->torn)
		return PAXOS_WAIT;
	p->preparing = false;
	p->yes = 0;
	return PAXOS_SEND;
}

enum paxos_step paxos_on_answer(struct paxos_proposer *p, unsigned node, const struct paxos_msg *m)
{
	if (node == 0 || node > p->group->n || ballot_compare(&m->ballot, &p->ballot) != 0)
		return PAXOS_WAIT;
	if (m->promised.round > p->highest && m->promised.round <= ROUND_MAX)
		p->highest = m->promised.round;
	if (m->decided.generation > p->before.generation) {
		p->newer = m->decided;
		return PAXOS_OVERTAKEN;
	}
	/* A late answer about an earlier generation, whose ballots have the same numbers. */
	if (m->decided.generation != p->before.generation)
		return PAXOS_WAIT;
	switch (m->type) {
	case PAXOS_PROMISE:
		if (!p->preparing)
			return PAXOS_WAIT;
		p->yes |= 1u << node;
		return on_promise(p, m);
	case PAXOS_ACCEPTED:
		if (p->preparing)
			return PAXOS_WAIT;
		p->yes |= 1u << node;
		return (size_t)__builtin_popcount(p->yes) >= paxos_majority(p->group) ? PAXOS_CHOSEN
										      : PAXOS_WAIT;
	case PAXOS_REJECTED:
		/* Others might still make a majority, but they might also be dead: do not wait. */
		return PAXOS_LOST;
	default:
		return PAXOS_WAIT;
	}
}

void paxos_read(const struct paxos_group *g, const struct paxos_msg *answers, size_t n,
	struct own_record *ret)
{
	struct own_record newest = {0};
	assert(n <= VOTERS_MAX);
	for (size_t i = 0; i < n; i++)
		if (answers[i].decided.generation > newest.generation)
			newest = answers[i].decided;
	for (size_t i = 0; i < n; i++) {
		const struct paxos_msg *m = &answers[i];
		size_t same = 0;
		if (!m->accepted.host || m->value.generation != newest.generation + 1)
			continue;
		for (size_t j = 0; j < n; j++)
			same += answers[j].value.generation == m->value.generation &&
				ballot_same(&answers[j].accepted, &m->accepted);
		if (same >= paxos_majority(g)) {
			*ret = m->value;
			return;
		}
	}
	*ret = newest;
}
