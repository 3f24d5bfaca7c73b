/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The core under a hostile network: seeded random schedules with loss, repetition, reordering,
 * crashes in every place and restarts from what was on disk.  The checker watches what acceptors
 * accept, not what proposers believe.  Broken variants of the same world must be caught by it.
 */
#include "failover/paxos.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GENERATIONS 64
#define PACKETS     96
#define ACCEPTS     256

enum mutant {
	HEALTHY,
	NO_PERSISTENCE,   /* promises and accepts are not on disk */
	ANSWER_FIRST,     /* ... or only after the answer is out */
	IGNORES_PROMISE,  /* accepts below its promise */
	IGNORES_ACCEPTED, /* proposer does not adopt what promises report */
	WITHOUT_OWN,      /* proposer does not wait for its own promise to be on disk */
	COUNTS_HALF,      /* proposer is content with one vote less than a majority */
};

struct packet {
	unsigned from, to;
	bool answer;
	struct paxos_msg msg;
};

struct node {
	bool up, proposing, lost;
	struct paxos_acceptor memory, disk;
	struct own_record known;
	struct paxos_proposer p;
};

struct accept {
	uint64_t generation;
	struct ballot ballot;
	struct own_record value;
	uint32_t nodes;
};

struct world {
	uint64_t rng;
	enum mutant mutant;
	struct paxos_group group, half;
	struct node nodes[VOTERS_MAX + 1];
	struct packet net[PACKETS];
	size_t n_packets, n_accepts;
	struct accept accepts[ACCEPTS];
	struct own_record chosen[GENERATIONS]; /* generation 0: nothing yet */
	bool wanted_illegally;
	const char *violation;
	/* did the schedule contain what it is for? */
	unsigned fast, adopted, lost, overtaken, decided, restarts;
};

static uint64_t rnd(struct world *w, uint64_t below)
{
	uint64_t z = w->rng += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (z ^ z >> 31) % below;
}

static const char *name_of(struct world *w, unsigned node)
{
	return w->group.names[node - 1];
}

static void post(
	struct world *w, unsigned from, unsigned to, bool answer, const struct paxos_msg *m)
{
	size_t at =
		w->n_packets < PACKETS ? w->n_packets++ : rnd(w, PACKETS); /* full: one is lost */
	w->net[at] = (struct packet){from, to, answer, *m};
}

static void post_all(struct world *w, unsigned from, const struct paxos_msg *m)
{
	for (unsigned to = 1; to <= w->group.n; to++)
		post(w, from, to, false, m);
}

static void must_be_chosen(struct world *w, const struct own_record *r, const char *who)
{
	if (r->generation >= GENERATIONS || !own_record_equal(r, &w->chosen[r->generation]))
		w->violation = who;
}

/* A majority accepted the same ballot: decided, whoever knows it. */
static void saw_accept(struct world *w, unsigned node, const struct paxos_acceptor *a)
{
	struct accept *x = NULL;
	for (size_t i = 0; i < w->n_accepts && !x; i++)
		if (w->accepts[i].generation == a->value.generation &&
			ballot_compare(&w->accepts[i].ballot, &a->accepted) == 0)
			x = &w->accepts[i];
	if (!x && w->n_accepts < ACCEPTS) {
		x = &w->accepts[w->n_accepts++];
		*x = (struct accept){a->value.generation, a->accepted, a->value, 0};
	}
	if (!x)
		return;
	if (!own_record_equal(&x->value, &a->value))
		w->violation = "one ballot carried two values";
	x->nodes |= 1u << node;
	if ((size_t)__builtin_popcount(x->nodes) < paxos_majority(&w->group))
		return;
	uint64_t g = x->generation;
	if (g >= GENERATIONS)
		return;
	if (w->chosen[g].generation && !own_record_equal(&w->chosen[g], &x->value))
		w->violation = "a generation was decided twice";
	w->chosen[g] = x->value;
	/* Validity: somebody named in the record before could have wanted it. */
	const struct own_record *before = &w->chosen[g - 1];
	bool legal = false;
	for (unsigned n = 1; n <= w->group.n; n++)
		legal |= paxos_allowed(&w->group, before, name_of(w, n), &x->value);
	if (!legal)
		w->violation = "decided what nobody may propose";
}

static void crash(struct world *w, unsigned n)
{
	struct node *node = &w->nodes[n];
	node->up = node->proposing = false;
}

static void restart(struct world *w, unsigned n)
{
	struct node *node = &w->nodes[n];
	node->up = true;
	node->memory = node->disk;
	node->known = node->disk.decided;
	w->restarts++;
}

/* As if nothing had been promised or accepted before.  The acceptor itself asserts that it never
 * goes back, so it must not see what it goes back from. */
static bool answer_without_promise(
	struct world *w, struct paxos_acceptor *a, const struct packet *k, struct paxos_msg *ret)
{
	const struct paxos_acceptor was = *a;
	*a = (struct paxos_acceptor){.decided = was.decided};
	bool changed = paxos_answer(a, &w->group, name_of(w, k->from), &k->msg, ret);
	if (!a->accepted.host && a->decided.generation == was.decided.generation) {
		a->accepted = was.accepted;
		a->value = was.value;
	}
	return changed;
}

static void on_request(struct world *w, const struct packet *k)
{
	struct node *node = &w->nodes[k->to];
	struct paxos_acceptor a = node->memory;
	struct paxos_msg answer;
	bool changed = paxos_learn(&a, &node->known);
	if (w->mutant == IGNORES_PROMISE && k->msg.type == PAXOS_ACCEPT)
		changed |= answer_without_promise(w, &a, k, &answer);
	else
		changed |= paxos_answer(&a, &w->group, name_of(w, k->from), &k->msg, &answer);
	if (rnd(w, 60) == 0) {
		crash(w, k->to); /* before the write */
		return;
	}
	if (w->mutant == NO_PERSISTENCE)
		node->disk.decided = a.decided;
	else if (changed && !(w->mutant == ANSWER_FIRST && rnd(w, 10) == 0))
		node->disk = a;
	if (a.accepted.host)
		saw_accept(w, k->to, &a);
	node->memory = a;
	if (a.decided.generation > node->known.generation)
		node->known = a.decided;
	if (a.decided.generation)
		must_be_chosen(w, &a.decided, "an acceptor believes a record that was not decided");
	if (rnd(w, 60) == 0)
		crash(w, k->to); /* after the write, before the answer */
	else
		post(w, k->to, k->from, true, &answer);
}

static void on_answer(struct world *w, const struct packet *k)
{
	struct node *node = &w->nodes[k->to];
	struct paxos_proposer *p = &node->p;
	struct paxos_msg m = k->msg, out;
	if (!node->proposing || node->lost)
		return;
	if (w->mutant == IGNORES_ACCEPTED)
		m.accepted = (struct ballot){0};
	uint32_t self = 1u << p->self, votes = (p->yes | 1u << k->from) & ~self;
	if (w->mutant == WITHOUT_OWN && p->preparing && m.type == PAXOS_PROMISE &&
		ballot_compare(&m.ballot, &p->ballot) == 0 &&
		(size_t)__builtin_popcount(votes) >= paxos_majority(&w->group))
		p->yes |= self;
	switch (paxos_on_answer(p, k->from, &m)) {
	case PAXOS_WAIT:
		break;
	case PAXOS_SEND:
		w->adopted += !own_record_equal(&p->value, &p->want);
		paxos_request(p, &out);
		post_all(w, k->to, &out);
		break;
	case PAXOS_LOST:
		w->lost++;
		node->lost = true;
		break;
	case PAXOS_CHOSEN:
		w->decided++;
		w->fast += p->ballot.round == 0;
		must_be_chosen(w, &p->value, "a proposer believes a record that was not decided");
		node->known = p->value;
		node->proposing = false;
		out = (struct paxos_msg){.type = PAXOS_DECIDED, .value = p->value};
		post_all(w, k->to, &out);
		break;
	case PAXOS_OVERTAKEN:
		w->overtaken++;
		must_be_chosen(w, &p->newer, "a proposer was told a record that was not decided");
		node->known = p->newer;
		node->proposing = false;
		break;
	}
}

/* Any of the records this node may want next; false if it is not named. */
static bool pick_want(struct world *w, unsigned n, struct own_record *ret)
{
	const char *self = name_of(w, n), *other = name_of(w, 1 + (unsigned)rnd(w, w->group.n));
	const struct own_record *known = &w->nodes[n].known;
	for (int tries = 0; tries < 100; tries++) {
		struct own_record r = {.generation = known->generation + 1};
		switch (rnd(w, 6)) {
		case 0:
			break; /* stop */
		case 1:
			strcpy(r.owner, known->standby); /* handover */
			break;
		case 2:
		case 3:
			strcpy(r.standby, other);
			/* fall through */
		default:
			strcpy(r.owner, self);
		}
		if (own_record_valid(&r) && paxos_allowed(&w->group, known, self, &r)) {
			*ret = r;
			return true;
		}
	}
	return false;
}

static void act(struct world *w, unsigned n)
{
	struct node *node = &w->nodes[n];
	struct paxos_msg m;
	uint64_t own = node->memory.promised.round;
	if (node->known.generation >= GENERATIONS - 2)
		return;
	if (node->proposing && node->known.generation > node->p.before.generation) {
		node->proposing = false;
	} else if (!node->proposing) {
		struct own_record want;
		if (!pick_want(w, n, &want))
			return;
		paxos_start(&node->p, &w->group, n, &node->known, &want, own);
		if (w->mutant == COUNTS_HALF)
			node->p.group = &w->half;
		node->proposing = true;
		node->lost = false;
	} else if (node->lost || rnd(w, 3) == 0) {
		node->lost = false;
		paxos_new_round(&node->p, own);
	} /* else: the same request again, as on a new connection */
	if (node->proposing) {
		paxos_request(&node->p, &m);
		post_all(w, n, &m);
	}
}

static void step(struct world *w, unsigned trouble)
{
	unsigned n = 1 + (unsigned)rnd(w, w->group.n);
	uint64_t dice = rnd(w, 100);
	if (dice < 6) {
		if (w->nodes[n].up)
			act(w, n);
		else
			restart(w, n);
		return;
	}
	if (dice < 7 && trouble && w->nodes[n].up) {
		crash(w, n);
		return;
	}
	if (!w->n_packets)
		return;
	size_t at = rnd(w, w->n_packets);
	struct packet k = w->net[at];
	bool again = dice < 20; /* delivered now, and once more later */
	if (!again)
		w->net[at] = w->net[--w->n_packets];
	if (dice > 100 - trouble || !w->nodes[k.to].up)
		return; /* lost */
	if (k.answer)
		on_answer(w, &k);
	else
		on_request(w, &k);
}

static void world_init(struct world *w, uint64_t seed, enum mutant mutant)
{
	memset(w, 0, sizeof *w);
	w->rng = seed;
	w->mutant = mutant;
	struct voter_peer voters[5] = {{"hostC"}, {"hostA"}, {"hostB"}, {"hostE"}, {"hostD"}};
	paxos_group_init(&w->group, voters, rnd(w, 3) ? 3 : 5);
	/* Its majority is one less. */
	w->half = w->group;
	w->half.n -= 2;
	for (unsigned n = 1; n <= w->group.n; n++)
		w->nodes[n].up = true;
}

static void run(struct world *w, uint64_t seed, enum mutant mutant, unsigned steps)
{
	world_init(w, seed, mutant);
	unsigned trouble = (unsigned)rnd(w, 30);
	for (unsigned i = 0; i < steps && !w->violation; i++)
		step(w, trouble);
}

static void test_every_generation_is_decided_once(void **state)
{
	struct world *w = malloc(sizeof *w), sum = {0};
	unsigned long generations = 0;
	for (uint64_t seed = 1; seed <= 20000; seed++) {
		run(w, seed, HEALTHY, 800);
		if (w->violation)
			fail_msg("seed %lu: %s", (unsigned long)seed, w->violation);
		sum.fast += w->fast;
		sum.adopted += w->adopted;
		sum.lost += w->lost;
		sum.overtaken += w->overtaken;
		sum.decided += w->decided;
		sum.restarts += w->restarts;
		for (int g = 1; g < GENERATIONS; g++)
			generations += w->chosen[g].generation != 0;
	}
	printf("generations %lu, decisions seen %u, by the fast ballot %u, adopted values %u, lost "
	       "rounds %u, overtaken %u, restarts %u\n",
		generations, sum.decided, sum.fast, sum.adopted, sum.lost, sum.overtaken,
		sum.restarts);
	assert_true(sum.fast > 100 && sum.adopted > 100 && sum.lost > 100 && sum.overtaken > 100);
	assert_true(sum.restarts > 1000 && generations > 6000);
	free(w);
}

/* Once the network is whole, one proposer that tries again gets every generation decided. */
static void test_a_healed_network_decides(void **state)
{
	struct world *w = malloc(sizeof *w);
	for (uint64_t seed = 1; seed <= 1000; seed++) {
		run(w, seed, HEALTHY, 300);
		for (unsigned n = 1; n <= w->group.n; n++)
			if (!w->nodes[n].up)
				restart(w, n);
		/* Who may: somebody named in the newest decided record, told of it. */
		uint64_t g = 0;
		while (w->chosen[g + 1].generation)
			g++;
		struct own_record newest = w->chosen[g], want;
		unsigned n = newest.owner[0] ? paxos_group_node(&w->group, newest.owner) : 1;
		w->nodes[n].known = newest;
		w->nodes[n].proposing = false;
		assert_true(pick_want(w, n, &want));
		paxos_start(&w->nodes[n].p, &w->group, n, &newest, &want,
			w->nodes[n].memory.promised.round);
		struct paxos_proposer *p = &w->nodes[n].p;
		enum paxos_step s = PAXOS_SEND;
		for (int tries = 0; tries < 50 && s != PAXOS_CHOSEN; tries++) {
			struct paxos_msg m, answer;
			if (s == PAXOS_LOST)
				paxos_new_round(p, w->nodes[n].memory.promised.round);
			paxos_request(p, &m);
			s = PAXOS_WAIT;
			for (unsigned to = 1; to <= w->group.n && s == PAXOS_WAIT; to++) {
				paxos_answer(&w->nodes[to].memory, &w->group, name_of(w, n), &m,
					&answer);
				s = paxos_on_answer(p, to, &answer);
			}
		}
		assert_int_equal(s, PAXOS_CHOSEN);
	}
	free(w);
}

static void test_the_checker_catches_broken_variants(void **state)
{
	static const char *const names[] = {"", "no persistence", "answer before the write",
		"acceptor ignores its promise", "proposer ignores accepted values",
		"proposer goes on without its own promise", "less than a majority"};
	struct world *w = malloc(sizeof *w);
	for (enum mutant m = NO_PERSISTENCE; m <= COUNTS_HALF; m++) {
		uint64_t seed = 1;
		do
			run(w, seed, m, 800);
		while (!w->violation && ++seed <= 6000);
		printf("%s: %s (seed %lu)\n", names[m], w->violation ? w->violation : "NOT CAUGHT",
			(unsigned long)seed);
		assert_non_null(w->violation);
	}
	free(w);
}

static struct own_record rec(uint64_t g, const char *owner, const char *standby)
{
	struct own_record r = {.generation = g};
	strcpy(r.owner, owner);
	strcpy(r.standby, standby);
	return r;
}

static void test_who_may_propose_what(void **state)
{
	struct voter_peer voters[3] = {{"A"}, {"B"}, {"C"}};
	struct paxos_group g;
	paxos_group_init(&g, voters, 3);
	static const struct {
		const char *owner, *standby, *who, *next_owner, *next_standby;
		bool allowed;
	} rows[] = {
		/* nobody owns it: a start by anyone, for itself, unprotected */
		{"", "", "A", "A", "", true},
		{"", "", "C", "C", "", true},
		{"", "", "A", "B", "", false},
		{"", "", "A", "A", "B", false},
		{"", "", "A", "", "", false},
		{"", "", "X", "X", "", false},
		/* the owner */
		{"A", "", "A", "A", "", true},
		{"A", "", "A", "A", "B", true},
		{"A", "", "A", "", "", true},
		{"A", "", "A", "B", "", false},
		{"A", "B", "A", "A", "", true},
		{"A", "B", "A", "A", "C", true},
		{"A", "B", "A", "B", "", true},
		{"A", "B", "A", "C", "", false},
		{"A", "B", "A", "B", "A", false},
		{"A", "B", "A", "", "", true},
		{"A", "", "A", "A", "X", false},
		{"A", "", "A", "A", "A", false},
		{"A", "B", "A", "", "B", false},
		/* the standby: only itself, alone */
		{"A", "B", "B", "B", "", true},
		{"A", "B", "B", "B", "A", false},
		{"A", "B", "B", "A", "", false},
		{"A", "B", "B", "", "", false},
		{"A", "B", "B", "B", "C", false},
		/* nobody else, and no former standby */
		{"A", "B", "C", "C", "", false},
		{"A", "", "B", "B", "", false},
		{"A", "B", "C", "A", "B", false},
		{"A", "B", "", "", "", false},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct own_record before = rec(7, rows[i].owner, rows[i].standby);
		struct own_record next = rec(8, rows[i].next_owner, rows[i].next_standby);
		if (paxos_allowed(&g, &before, rows[i].who, &next) != rows[i].allowed)
			fail_msg("row %zu", i);
		next.generation = 9;
		assert_false(paxos_allowed(&g, &before, rows[i].who, &next));
		next.generation = 7;
		assert_false(paxos_allowed(&g, &before, rows[i].who, &next));
	}
}

/* What a correct proposer never sends must not be accepted either. */
static void test_acceptors_refuse_what_nobody_may_ask(void **state)
{
	struct voter_peer voters[3] = {{"A"}, {"B"}, {"C"}};
	struct paxos_group g;
	paxos_group_init(&g, voters, 3);
	struct paxos_acceptor a = {.decided = rec(5, "A", "B")};
	struct paxos_msg answer;
	static const struct {
		const char *from;
		struct paxos_msg msg;
		enum paxos_type type;
		enum paxos_refusal refusal;
	} rows[] = {
		{"C", {PAXOS_PREPARE, .decided = {5, "A", "B"}, .ballot = {1, 3}}, PAXOS_REFUSED,
			PAXOS_NOT_ELIGIBLE},
		{"X", {PAXOS_PREPARE, .decided = {5, "A", "B"}, .ballot = {1, 1}}, PAXOS_REFUSED,
			PAXOS_MALFORMED},
		/* somebody else's ballot */
		{"B", {PAXOS_PREPARE, .decided = {5, "A", "B"}, .ballot = {1, 1}}, PAXOS_REFUSED,
			PAXOS_MALFORMED},
		{"A", {PAXOS_PREPARE, .decided = {5, "A", "B"}, .ballot = {0, 1}}, PAXOS_REFUSED,
			PAXOS_MALFORMED},
		{"A", {PAXOS_PREPARE, .decided = {5, "A", "B"}, .ballot = {UINT64_MAX, 1}},
			PAXOS_REFUSED, PAXOS_MALFORMED},
		/* a stale standby, of generation 4 */
		{"C",
			{PAXOS_ACCEPT, .decided = {4, "A", "C"}, .ballot = {0, 3},
				.value = {5, "C", ""}},
			PAXOS_STALE, 0},
		{"A", {PAXOS_PREPARE, .decided = {5, "A", "C"}, .ballot = {1, 1}}, PAXOS_REFUSED,
			PAXOS_CONFLICT},
		/* the fast ballot is the standby's, for itself */
		{"A",
			{PAXOS_ACCEPT, .decided = {5, "A", "B"}, .ballot = {0, 1},
				.value = {6, "A", ""}},
			PAXOS_REFUSED, PAXOS_NOT_ELIGIBLE},
		{"B",
			{PAXOS_ACCEPT, .decided = {5, "A", "B"}, .ballot = {0, 2},
				.value = {6, "A", ""}},
			PAXOS_REFUSED, PAXOS_NOT_ELIGIBLE},
		{"A",
			{PAXOS_ACCEPT, .decided = {5, "A", "B"}, .ballot = {1, 1},
				.value = {6, "C", ""}},
			PAXOS_REFUSED, PAXOS_NOT_ELIGIBLE},
		{"A",
			{PAXOS_ACCEPT, .decided = {5, "A", "B"}, .ballot = {1, 1},
				.value = {7, "A", ""}},
			PAXOS_REFUSED, PAXOS_NOT_ELIGIBLE},
		{"C", {PAXOS_DECIDED, .value = {5, "C", ""}}, PAXOS_REFUSED, PAXOS_CONFLICT},
		{"A", {99}, PAXOS_REFUSED, PAXOS_MALFORMED},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct paxos_msg m = rows[i].msg; /* its ballot's host by its place */
		if (m.ballot.host)
			m.ballot.host = g.ids[m.ballot.host - 1];
		bool changed = paxos_answer(&a, &g, rows[i].from, &m, &answer);
		if (changed || answer.type != rows[i].type || answer.refusal != rows[i].refusal)
			fail_msg("row %zu: type %d refusal %d changed %d", i, answer.type,
				answer.refusal, changed);
	}
	assert_true(own_record_equal(&answer.decided, &a.decided));
	assert_int_equal(a.promised.host, 0);
}

/* Hosts of two lists that differ by one host: what is one host's place in the one is another's in
 * the other. */
static void list_of(struct paxos_group *g, const char *names)
{
	struct voter_peer voters[VOTERS_MAX] = {0};
	size_t n = strlen(names);
	for (size_t i = 0; i < n; i++)
		voters[i].name[0] = names[i];
	paxos_group_init(g, voters, n);
}

struct copy {
	const char *name;
	struct paxos_acceptor state;
};

static enum paxos_step ask(
	struct paxos_proposer *p, const struct paxos_group *g, const char *from, struct copy *voter)
{
	struct paxos_msg m, answer;
	paxos_request(p, &m);
	paxos_answer(&voter->state, g, from, &m, &answer);
	return paxos_on_answer(p, paxos_group_node(g, voter->name), &answer);
}

/* Asks these two until one of their answers ends the round, round after round. */
static void decide_by(struct paxos_proposer *p, const struct paxos_group *g, const char *from,
	struct copy *own, struct copy *other)
{
	enum paxos_step s = PAXOS_WAIT;
	for (int i = 0; i < 20 && s != PAXOS_CHOSEN; i++) {
		if (s == PAXOS_LOST)
			paxos_new_round(p, own->state.promised.round);
		s = ask(p, g, from, own);
		if (s == PAXOS_WAIT)
			s = ask(p, g, from, other);
	}
	assert_int_equal(s, PAXOS_CHOSEN);
}

/* In the list A B C D host B has the second place, in B C D host C has it.  B's proposal of the old
 * list reaches B itself only, and is promised by D. */
static void failover_4_a_ballot_is_its_hosts_in_every_list(void **state)
{
	struct paxos_group before, after;
	list_of(&before, "ABCD");
	list_of(&after, "BCD");
	const struct own_record first = rec(1, "C", "B");
	struct copy a = {"A", {.decided = first}}, b = {"B", {.decided = first}},
		    c = {"C", {.decided = first}}, d = {"D", {.decided = first}};
	struct own_record want = rec(2, "B", "");
	struct paxos_proposer p;
	paxos_start(&p, &before, paxos_group_node(&before, "B"), &first, &want, 0);
	paxos_new_round(&p, 0);
	assert_int_equal(ask(&p, &before, "B", &a), PAXOS_WAIT);
	assert_int_equal(ask(&p, &before, "B", &d), PAXOS_WAIT);
	assert_int_equal(ask(&p, &before, "B", &b), PAXOS_SEND);
	assert_int_equal(
		ask(&p, &before, "B", &b), PAXOS_WAIT); /* accepts; the others do not hear */
	/* A is taken out of the list.  C proposes itself, and C and D decide it. */
	want = rec(2, "C", "");
	paxos_start(&p, &after, paxos_group_node(&after, "C"), &first, &want, 0);
	p.highest = b.state.promised.round - 1; /* C has not heard of B's round */
	paxos_new_round(&p, 0);
	decide_by(&p, &after, "C", &c, &d);
	struct own_record chosen = p.value;
	/* B, which has heard nothing of it, asks again. */
	want = rec(2, "B", "");
	paxos_start(&p, &after, paxos_group_node(&after, "B"), &first, &want, 0);
	paxos_new_round(&p, b.state.promised.round);
	decide_by(&p, &after, "B", &b, &c);
	assert_true(own_record_equal(&p.value, &chosen));
}

/* What an mcd has written that numbered the hosts by their places. */
static void failover_4_a_ballot_of_an_unknown_host_is_nobodys(void **state)
{
	struct paxos_group g;
	list_of(&g, "ABC");
	struct ballot second = {1, BALLOT_BY_PLACE(2)}, third = {1, BALLOT_BY_PLACE(3)};
	assert_false(ballot_same(&second, &second));
	assert_true(ballot_compare(&second, &third) < 0);
	for (size_t i = 0; i < g.n; i++) {
		struct ballot own = {1, g.ids[i]}, next = {2, g.ids[i]};
		assert_true(ballot_compare(&second, &own) > 0);
		assert_true(ballot_compare(&second, &next) < 0);
		assert_true(ballot_same(&own, &own));
	}
	/* Nothing is promised or accepted in its round any more, by whomever it was. */
	const struct own_record first = rec(5, "A", "B");
	struct paxos_acceptor s = {.decided = first, .promised = second};
	struct paxos_msg m = {PAXOS_PREPARE, .decided = first, .ballot = {1, g.ids[1]}}, answer;
	assert_false(paxos_answer(&s, &g, "B", &m, &answer));
	assert_int_equal(answer.type, PAXOS_REJECTED);
	m.type = PAXOS_ACCEPT;
	m.value = rec(6, "B", "");
	assert_false(paxos_answer(&s, &g, "B", &m, &answer));
	assert_int_equal(answer.type, PAXOS_REJECTED);
	m = (struct paxos_msg){PAXOS_PREPARE, .decided = first, .ballot = {2, g.ids[1]}};
	assert_true(paxos_answer(&s, &g, "B", &m, &answer));
	assert_int_equal(answer.type, PAXOS_PROMISE);
	/* No majority is counted of them. */
	struct own_record r;
	struct paxos_msg read[2] = {
		{PAXOS_CURRENT, .decided = first, .accepted = second, .value = rec(6, "B", "")}};
	read[1] = read[0];
	paxos_read(&g, read, 2, &r);
	assert_int_equal(r.generation, 5);
	/* A proposer takes the highest over, and proposes nothing where two may be one. */
	struct paxos_proposer p;
	struct own_record want = rec(6, "B", "");
	for (int torn = 0; torn < 2; torn++) {
		paxos_start(&p, &g, 2, &first, &want, 0);
		paxos_new_round(&p, 1);
		answer = (struct paxos_msg){PAXOS_PROMISE, .decided = first, .ballot = p.ballot,
			.promised = p.ballot, .accepted = second, .value = rec(6, "A", "")};
		assert_int_equal(paxos_on_answer(&p, 2, &answer), PAXOS_WAIT);
		answer.value = torn ? rec(6, "B", "") : rec(6, "A", "");
		assert_int_equal(paxos_on_answer(&p, 3, &answer), torn ? PAXOS_WAIT : PAXOS_SEND);
		assert_string_equal(p.value.owner, "A");
	}
}

static void test_two_names_of_one_digest_are_no_list(void **state)
{
	struct paxos_group g;
	size_t a = 9, b = 9;
	list_of(&g, "ABC");
	assert_false(paxos_group_collides(&g, &a, &b));
	assert_int_equal(a, 9);
	g.ids[2] = g.ids[0];
	assert_true(paxos_group_collides(&g, &a, &b));
	assert_true(a == 0 && b == 2);
	/* Part of both formats: it never changes. */
	assert_true(paxos_host_id("hostA") == UINT64_C(0x21e936c98ffd0940));
}

static void test_a_read_finds_a_decision_nobody_was_told_of(void **state)
{
	struct voter_peer voters[3] = {{"A"}, {"B"}, {"C"}};
	struct paxos_group g;
	paxos_group_init(&g, voters, 3);
	struct own_record r, next = rec(6, "B", "");
	struct paxos_msg m[2] = {
		{PAXOS_CURRENT, .decided = rec(5, "A", "B"), .accepted = {0, 2}, .value = next},
		{PAXOS_CURRENT, .decided = rec(5, "A", "B"), .accepted = {0, 2}, .value = next},
	};
	paxos_read(&g, m, 2, &r);
	assert_true(own_record_equal(&r, &next));
	/* One of two is in doubt, not decided; so are two ballots. */
	m[1].accepted.round = 3;
	paxos_read(&g, m, 2, &r);
	assert_int_equal(r.generation, 5);
	m[1].accepted = (struct ballot){0};
	paxos_read(&g, m, 2, &r);
	assert_int_equal(r.generation, 5);
	m[1].decided = rec(9, "C", "");
	paxos_read(&g, m, 2, &r);
	assert_int_equal(r.generation, 9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_may_propose_what),
		cmocka_unit_test(test_acceptors_refuse_what_nobody_may_ask),
		cmocka_unit_test(test_a_read_finds_a_decision_nobody_was_told_of),
		cmocka_unit_test(failover_4_a_ballot_is_its_hosts_in_every_list),
		cmocka_unit_test(failover_4_a_ballot_of_an_unknown_host_is_nobodys),
		cmocka_unit_test(test_two_names_of_one_digest_are_no_list),
		cmocka_unit_test(test_every_generation_is_decided_once),
		cmocka_unit_test(test_a_healed_network_decides),
		cmocka_unit_test(test_the_checker_catches_broken_variants),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
