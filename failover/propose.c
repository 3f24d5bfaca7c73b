/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Driving a generation to a decision, and asking what is decided.
 *
 * Each phase sends one request to all connected voters at once, then takes our own answer (so our
 * disk and theirs work at the same time), then waits for as many answers as it needs, no more:
 * a dead voter costs nothing while a majority lives.  The only other wait is the back-off after a
 * round lost to somebody else's higher ballot.
 */
#include "common/clock.h"
#include "failover/vote-private.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Two hosts that race must not lose rounds to each other for long: the pause is random and grows
 * from about a round's duration on a LAN.  The first retry is immediate, because most rejections
 * come from a ballot that nobody pursues any more. */
#define BACK_OFF_MIN (1 * MC_MSEC)
#define BACK_OFF_MAX (64 * MC_MSEC)

static uint64_t next_random(struct voter *v)
{
	pthread_mutex_lock(&v->lock);
	uint64_t z = v->random += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
	pthread_mutex_unlock(&v->lock);
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static int bad_vm(const char *vm, struct mc_error *err)
{
	return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
		"'%s' cannot be the name of a VM, or there are too many", vm);
}

void voter_reachable(struct voter *v, size_t *ret_connected, size_t *ret_total)
{
	*ret_connected = 1 + (size_t)__builtin_popcount(mesh_connected(v->mesh));
	*ret_total = v->group.n;
}

void voter_known(struct voter *v, const char *name, struct own_record *ret)
{
	struct voter_vm *vm = voter_vm_get(v, name, false);
	if (vm)
		voter_vm_known(v, vm, ret);
	else
		*ret = (struct own_record){0};
}

/* 1 = that generation is open as far as we know; else what voter_propose is to return. */
static int settled(struct voter *v, struct voter_vm *vm, const struct own_record *next,
	struct own_record *ret_decided, struct mc_error *err)
{
	struct own_record known;
	voter_vm_known(v, vm, &known);
	if (known.generation < next->generation)
		return 1;
	*ret_decided = known;
	if (own_record_equal(&known, next))
		return 0;
	return mc_error_set(err, -ESTALE, MC_ECLASS_NOT_OWNER,
		"VM '%s' is owned by %s%s%s since generation %llu", vm->name,
		known.owner[0] ? "host '" : "nobody", known.owner, known.owner[0] ? "'" : "",
		(unsigned long long)known.generation);
}

/* Our own acceptor, called directly.  -EIO: it can no longer promise anything. */
static int ask_self(struct voter *v, struct voter_vm *vm, struct paxos_proposer *p,
	const struct paxos_msg *req, enum paxos_step *ret_step, struct mc_error *err)
{
	struct paxos_msg own;
	voter_vm_answer(v, vm, v->self_name, req, &own);
	if (own.type == PAXOS_REFUSED && own.refusal == PAXOS_DISK)
		return mc_error_set(err, -EIO, MC_ECLASS_FAILED,
			"VM '%s': this host cannot write its own votes, so it proposes nothing; "
			"check the file system of the state directory, then restart mcd",
			vm->name);
	/* The gate closed just now: without our own promise nothing can be won, so nothing is
	 * waited for. */
	if (own.type == PAXOS_REFUSED && own.refusal == PAXOS_NOT_QUORATE)
		*ret_step = PAXOS_LOST;
	else
		*ret_step = paxos_on_answer(p, v->self, &own);
	return 0;
}

static uint64_t own_round(struct voter_vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	uint64_t round = vm->state.promised.round;
	pthread_mutex_unlock(&vm->lock);
	return round;
}

/* Poked: did we learn the outcome from somebody else meanwhile? */
static bool overtaken(struct voter *v, struct voter_vm *vm, const struct paxos_proposer *p)
{
	struct own_record known;
	voter_vm_known(v, vm, &known);
	return known.generation > p->before.generation;
}

static int back_off(struct voter *v, struct voter_vm *vm, const struct paxos_proposer *p,
	struct mesh_call *call, uint64_t most, uint64_t deadline, struct mc_error *err)
{
	uint64_t until = mc_now() + (most ? next_random(v) % most : 0);
	int r;
	do
		r = mesh_call_pause(call, until < deadline ? until : deadline);
	while (r == -EINTR && !overtaken(v, vm, p));
	if (r == -ESHUTDOWN || mc_now() >= deadline)
		return voter_no_majority(v, vm->name, err);
	return 0;
}

/* Sends the running phase's request to all, and takes what answers until the phase is over. */
static int run_phase(struct voter *v, struct voter_vm *vm, struct paxos_proposer *p,
	struct mesh_call *call, uint64_t deadline, enum paxos_step *ret_step, struct mc_error *err)
{
	struct paxos_msg req;
	struct vote_msg m;
	assert(vm->proposing); /* two proposals of this host would share ballots */
	paxos_request(p, &req);
	voter_vm_request(v, vm, &req, &m);
	mesh_call_send(call, &m, MESH_ALL);
	enum paxos_step step = PAXOS_WAIT;
	int r = ask_self(v, vm, p, &req, &step, err);
	if (r < 0)
		return r;
	while (step == PAXOS_WAIT) {
		unsigned node;
		r = mesh_call_wait(call, deadline, &node, &m);
		if (r == 0 || r == -ESHUTDOWN)
			return voter_no_majority(v, vm->name, err);
		if (r == 1)
			step = paxos_on_answer(p, node, &m.paxos);
		else if (overtaken(v, vm, p))
			break;
	}
	*ret_step = step;
	return 0;
}

/* Tells everybody; nothing depends on their hearing it. */
static void announce(struct voter *v, struct voter_vm *vm, const struct own_record *decided)
{
	assert(decided->generation && own_record_valid(decided));
	struct paxos_msg msg = {.type = PAXOS_DECIDED, .value = *decided};
	struct vote_msg m;
	voter_vm_request(v, vm, &msg, &m);
	mesh_post(v->mesh, &m, MESH_ALL);
	voter_vm_learn(v, vm, decided);
}

/* Round after round, until that generation is settled. */
static int drive(struct voter *v, struct voter_vm *vm, struct paxos_proposer *p,
	struct mesh_call *call, uint64_t deadline, struct own_record *ret_decided,
	struct mc_error *err)
{
	uint64_t pause = 0;
	for (;;) {
		enum paxos_step step = PAXOS_WAIT;
		int r = run_phase(v, vm, p, call, deadline, &step, err);
		if (r < 0)
			return r;
		if (step == PAXOS_CHOSEN)
			announce(v, vm, &p->value);
		if (step == PAXOS_OVERTAKEN)
			voter_vm_learn(v, vm, &p->newer);
		r = settled(v, vm, &p->want, ret_decided, err);
		if (r <= 0)
			return r;
		if (step != PAXOS_LOST)
			continue;
		r = back_off(v, vm, p, call, pause, deadline, err);
		if (r < 0)
			return r;
		pause = pause ? pause * 2 : BACK_OFF_MIN;
		if (pause > BACK_OFF_MAX)
			pause = BACK_OFF_MAX;
		paxos_new_round(p, own_round(vm));
	}
}

static int propose(struct voter *v, struct voter_vm *vm, const struct own_record *before,
	const struct own_record *next, uint64_t deadline, struct own_record *ret_decided,
	struct mc_error *err)
{
	struct paxos_proposer p;
	struct mesh_call call;
	assert(next->generation == before->generation + 1);
	paxos_start(&p, &v->group, v->self, before, next, own_round(vm));
	mesh_call_begin(v->mesh, &call);
	int r = drive(v, vm, &p, &call, deadline, ret_decided, err);
	mesh_call_end(&call);
	return r;
}

int voter_propose(struct voter *v, const char *name, const struct own_record *next,
	uint64_t deadline, struct own_record *ret_decided, struct mc_error *err)
{
	struct voter_vm *vm = voter_vm_get(v, name, true);
	if (!vm)
		return bad_vm(name, err);
	if (!own_record_valid(next))
		return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
			"VM '%s': malformed ownership record", name);
	voter_enter(v);
	if (!voter_take_turn(v, vm, deadline)) {
		voter_leave(v);
		return voter_no_majority(v, name, err);
	}
	if (!voter_wait_for_gate(v, vm, next->generation, deadline)) {
		voter_end_turn(v, vm);
		voter_leave(v);
		return mc_error_set(err, -ENOLINK, MC_ECLASS_NO_MAJORITY,
			"VM '%s': this host is outside the quorate part of the cluster and asks "
			"for no votes; check its network and 'mcctl status'",
			name);
	}
	struct own_record known;
	voter_vm_known(v, vm, &known);
	int r = settled(v, vm, next, ret_decided, err);
	if (r == 1 && next->generation != known.generation + 1)
		r = mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
			"VM '%s': generation %llu does not follow the known one, %llu", name,
			(unsigned long long)next->generation, (unsigned long long)known.generation);
	if (r == 1 && !paxos_allowed(&v->group, &known, v->self_name, next))
		r = mc_error_set(err, -EPERM, MC_ECLASS_NOT_OWNER,
			"VM '%s': host '%s' may not propose owner '%s' and standby '%s', because "
			"generation %llu names owner '%s' and standby '%s'",
			name, v->self_name, next->owner, next->standby,
			(unsigned long long)known.generation, known.owner, known.standby);
	if (r == 1)
		r = propose(v, vm, &known, next, deadline, ret_decided, err);
	voter_end_turn(v, vm);
	voter_leave(v);
	return r;
}

/* 0: nothing that we accepted stands against it. */
static int check_force(
	struct voter *v, struct voter_vm *vm, const struct own_record *next, struct mc_error *err)
{
	struct own_record known;
	voter_vm_known(v, vm, &known);
	if (next->generation != known.generation + 1 ||
		!paxos_allowed(&v->group, &known, v->self_name, next))
		return mc_error_set(err, -EPERM, MC_ECLASS_NOT_OWNER,
			"VM '%s': host '%s' is not named in the newest record it knows (generation "
			"%llu, owner '%s', standby '%s'), so it has nothing to take over",
			vm->name, v->self_name, (unsigned long long)known.generation, known.owner,
			known.standby);
	pthread_mutex_lock(&vm->lock);
	bool against = vm->state.accepted.host &&
		       vm->state.decided.generation == known.generation &&
		       !own_record_equal(&vm->state.value, next);
	struct own_record value = vm->state.value;
	pthread_mutex_unlock(&vm->lock);
	if (!against)
		return 0;
	return mc_error_set(err, -EBUSY, MC_ECLASS_NOT_OWNER,
		"VM '%s': this host has voted for owner '%s' and standby '%s' in generation %llu; "
		"that may be decided, and the VM may have gone on there with what this host does "
		"not have",
		vm->name, value.owner, value.standby, (unsigned long long)value.generation);
}

int voter_force(struct voter *v, const char *name, const struct own_record *next,
	struct own_record *ret_decided, struct mc_error *err)
{
	struct voter_vm *vm = voter_vm_get(v, name, true);
	if (!vm)
		return bad_vm(name, err);
	voter_enter(v);
	if (!voter_take_turn(v, vm, mc_now() + 5 * MC_SEC)) {
		voter_leave(v);
		return voter_no_majority(v, name, err);
	}
	struct own_record decided = *next;
	int r = settled(v, vm, next, &decided, err);
	if (r == 1)
		r = check_force(v, vm, next, err);
	if (r == 0) {
		struct paxos_msg word = {.type = PAXOS_DECIDED, .value = *next}, answer;
		voter_vm_answer(v, vm, v->self_name, &word, &answer);
		if (answer.type == PAXOS_REFUSED)
			r = mc_error_set(err, -EIO, MC_ECLASS_FAILED,
				"VM '%s': this host cannot write its votes; check the file system "
				"of the state directory",
				name);
	}
	if (r == 0)
		announce(v, vm, next);
	if (r == 0 || r == -ESTALE)
		*ret_decided = decided;
	voter_end_turn(v, vm);
	voter_leave(v);
	return r;
}

static int query(struct voter *v, struct voter_vm *vm, struct mesh_call *call, uint64_t deadline,
	struct own_record *ret)
{
	struct paxos_msg answers[VOTERS_MAX + 1], query = {.type = PAXOS_QUERY};
	struct vote_msg m;
	size_t n = 0;
	voter_vm_request(v, vm, &query, &m);
	mesh_call_send(call, &m, MESH_ALL);
	voter_vm_answer(v, vm, v->self_name, &query, &answers[0]);
	n += answers[0].type == PAXOS_CURRENT;
	while (n < paxos_majority(&v->group)) {
		unsigned node;
		int r = mesh_call_wait(call, deadline, &node, &m);
		if (r == 0 || r == -ESHUTDOWN)
			return -ENOLINK;
		if (r == 1 && m.paxos.type == PAXOS_CURRENT)
			answers[n++] = m.paxos;
		assert(n <= v->group.n);
	}
	paxos_read(&v->group, answers, n, ret);
	return 0;
}

int voter_current(struct voter *v, const char *name, uint64_t deadline, struct own_record *ret,
	struct mc_error *err)
{
	struct voter_vm *vm = voter_vm_get(v, name, true);
	if (!vm)
		return bad_vm(name, err);
	voter_enter(v);
	struct own_record decided;
	struct mesh_call call;
	mesh_call_begin(v->mesh, &call);
	int r = query(v, vm, &call, deadline, &decided);
	mesh_call_end(&call);
	if (r == 0) {
		voter_vm_learn(v, vm, &decided);
		voter_vm_known(v, vm, ret);
	} else {
		voter_no_majority(v, name, err);
	}
	voter_leave(v);
	return r;
}

uint64_t voter_ask_heard(struct voter *v, const char *host, uint64_t deadline)
{
	struct vote_msg m = {
		.group = v->group_id, .list = v->group.number, .paxos.type = VOTE_HEARD_REQUEST};
	uint64_t best = UINT64_MAX;
	if (!vote_name_valid(host))
		return best;
	strcpy(m.subject, host);
	voter_enter(v);
	/* Not the host itself: if it is dead, its answer is the one that would use up the deadline.
	 */
	unsigned node = paxos_group_node(&v->group, host);
	struct mesh_call call;
	mesh_call_begin(v->mesh, &call);
	mesh_call_send(&call, &m, node ? ~(1u << node) : MESH_ALL);
	while (!mesh_call_complete(&call)) {
		struct vote_msg answer;
		int r = mesh_call_wait(&call, deadline, &node, &answer);
		if (r == 0 || r == -ESHUTDOWN)
			break;
		if (r == 1 && answer.paxos.type == VOTE_HEARD_ANSWER && answer.number < best)
			best = answer.number;
	}
	mesh_call_end(&call);
	voter_leave(v);
	return best;
}
