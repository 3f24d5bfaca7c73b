/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * "Ask until it is decided" (mcd/vm/ask.h), with a role that the test scripts: at the n-th look the
 * facts are those of the n-th row, and what was done to the voters and said to the role is written
 * down in one line.
 */
#include "mcd/vm/ask.h"
#include "mcd/vm/mailbox.h"
#include "mcd/vm/owner.h"
#include "tests/unit/vm/vm-fixture.h"

#define ROWS 8

struct script {
	struct vm_question q; /* first: the role knows the script by it */
	struct decide_facts rows[ROWS];
	size_t n, at;
	char log[400];
	bool own;                 /* gather leaves the facts of vm_ask itself as they are */
	struct decide_facts seen; /* as vm_ask has filled them in, at the first look */
};

static struct script *the_script; /* whom the voters' hook writes to */

static void note(struct script *s, const char *what)
{
	size_t n = strlen(s->log);
	snprintf(s->log + n, sizeof s->log - n, "%s%s", n ? " " : "", what);
}

static void gather(struct vm_question *q, struct decide_facts *f)
{
	struct script *s = (struct script *)q;
	if (!s->at)
		s->seen = *f;
	bool proposed = f->proposed;
	enum decide_ownership ownership = f->ownership;
	*f = s->rows[s->at < s->n ? s->at : s->n - 1];
	s->at++;
	f->role = q->role;
	f->proposed = proposed;
	if (s->own)
		f->ownership = ownership;
}

static void begin(struct vm_question *q, const struct decision *d)
{
	note((struct script *)q, "begin");
}

static void before(struct vm_question *q, const struct decision *d)
{
	struct script *s = (struct script *)q;
	note(s, "before");
}

static void stuck(struct vm_question *q, const struct decision *d, const char *what)
{
	note((struct script *)q, "stuck");
}

static void listen_to_it(struct vm_question *q)
{
	note((struct script *)q, "listen");
	vm_take_pending(q->vm);
}

static void on_propose(void *ctx, const struct own_record *next)
{
	char text[200];
	snprintf(text, sizeof text, "propose:%s", next->owner[0] ? next->owner : "nobody");
	note(the_script, text);
}

static const struct vm_asker asker = {
	.gather = gather, .begin = begin, .before = before, .stuck = stuck, .listen = listen_to_it};

static const struct own_record first = {.generation = 7, .owner = "hostB", .standby = "hostA"};

static void prepare(void **state, struct script *s, enum decide_role role)
{
	struct vm_fixture *f = *state;
	struct vm *vm = vm_make(f, NULL, &first);
	memset(s, 0, sizeof *s);
	the_script = s;
	world_on_propose(f->w, on_propose, f->w);
	s->q = (struct vm_question){.asker = &asker,
		.vm = vm,
		.role = role,
		.generation = 7,
		.peer = "hostA",
		.config = {.automatic = true},
		.pause = MC_MSEC};
}

static void row(struct script *s, struct decide_facts f)
{
	f.quorate = true;
	s->rows[s->n++] = f;
}

static void expect(struct script *s, enum decide_action action, const char *log)
{
	assert_string_equal(decide_action_name(vm_ask(&s->q).action), decide_action_name(action));
	assert_string_equal(s->log, log);
}

/* --- the loop --------------------------------------------------------------------------------- */

static void what_is_decided_already_needs_no_asking(void **state)
{
	struct script s;
	prepare(state, &s, DECIDE_PRIMARY);
	row(&s, (struct decide_facts){.ownership = OWN_ALONE});
	expect(&s, ACT_RELEASE, "");
	assert_false(s.q.proposed || s.q.won);
}

static void a_vote_that_is_won_is_seen_in_the_facts(void **state)
{
	struct script s;
	prepare(state, &s, DECIDE_PRIMARY);
	s.own = true;
	row(&s, (struct decide_facts){.end = END_LINK});
	expect(&s, ACT_RELEASE, "begin before propose:hostB");
	assert_true(s.q.proposed && s.q.won);
	assert_int_equal(s.q.vm->rec.generation, 8);
}

static void failover_15_an_outcome_that_is_not_known_is_asked_for_again(void **state)
{
	struct vm_fixture *f = *state;
	struct script s;
	prepare(state, &s, DECIDE_PRIMARY);
	s.own = true;
	world_votes(f->w, WORLD_STUCK, 2);
	row(&s, (struct decide_facts){.end = END_LINK});
	/* the reason is gone, the proposal is not */
	row(&s, (struct decide_facts){.end = END_NONE});
	expect(&s, ACT_RELEASE,
		"begin before propose:hostB stuck listen before propose:hostB stuck listen before "
		"propose:hostB");
	struct own_record asked[4];
	assert_int_equal(world_proposals(f->w, asked, 4), 3);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(asked[i].generation, 8); /* the same one */
}

static void failover_15_a_lost_answer_is_found_by_asking_again(void **state)
{
	struct vm_fixture *f = *state;
	struct script s;
	prepare(state, &s, DECIDE_PRIMARY);
	s.own = true;
	world_votes(f->w, WORLD_UNHEARD, 1);
	row(&s, (struct decide_facts){.end = END_LINK});
	expect(&s, ACT_RELEASE, "begin before propose:hostB stuck listen before propose:hostB");
	assert_true(s.q.proposed);
	assert_false(s.q.won); /* it was told */
}

static void failover_15_a_vote_that_is_lost_is_the_others(void **state)
{
	struct vm_fixture *f = *state;
	struct script s;
	struct own_record theirs = world_record(8, "hostA", "");
	prepare(state, &s, DECIDE_PRIMARY);
	s.own = true;
	world_decide(f->w, &theirs);
	row(&s, (struct decide_facts){.end = END_LINK});
	expect(&s, ACT_DESTROY, "begin before propose:hostB");
	assert_false(s.q.won);
	assert_int_equal(s.q.vm->rec.generation, 7); /* nothing is acted under that was not won */
}

static void a_guest_that_powered_off_is_given_to_nobody(void **state)
{
	struct script s;
	prepare(state, &s, DECIDE_PRIMARY);
	s.own = true;
	row(&s, (struct decide_facts){.end = END_GUEST_OFF});
	expect(&s, ACT_STOP, "begin before propose:nobody");
}

static void rule_10_a_guest_with_disks_that_powered_off_stays_its_owners(void **state)
{
	struct script s;
	prepare(state, &s, DECIDE_PRIMARY);
	s.own = true;
	row(&s, (struct decide_facts){.end = END_GUEST_OFF, .keeps_disks = true});
	expect(&s, ACT_STOP, "begin before propose:hostB");
}

static void a_guest_whose_qemu_ended_is_given_to_its_standby(void **state)
{
	struct script s;
	prepare(state, &s, DECIDE_PRIMARY);
	s.own = true;
	row(&s, (struct decide_facts){
			.end = END_GUEST_GONE, .guest_gone = true, .peer_named = true});
	expect(&s, ACT_DESTROY, "begin before propose:hostA");
	struct own_record newest = vm_newest_record(s.q.vm);
	assert_string_equal(newest.owner, "hostA");
	assert_string_equal(newest.standby, "");
}

static void a_host_that_is_cut_off_asks_nothing(void **state)
{
	struct script s;
	prepare(state, &s, DECIDE_PRIMARY);
	row(&s, (struct decide_facts){.end = END_LINK});
	s.rows[0].quorate = false;
	row(&s, (struct decide_facts){.ownership = OWN_LOST});
	expect(&s, ACT_DESTROY, "begin stuck listen");
	assert_false(s.q.proposed);
}

/* --- looking ---------------------------------------------------------------------------------- */

static void a_majority_is_looked_to_where_nothing_is_known(void **state)
{
	struct vm_fixture *f = *state;
	struct script s;
	struct own_record theirs = world_record(8, "hostA", "");
	prepare(state, &s, DECIDE_PRIMARY);
	world_decide(f->w, &theirs);
	row(&s, (struct decide_facts){.ownership = OWN_UNKNOWN});
	row(&s, (struct decide_facts){.ownership = OWN_LOST});
	expect(&s, ACT_DESTROY, "begin"); /* one look, and no rest after an answer */
	assert_true(s.q.answered);
	assert_int_equal(vm_newest_record(s.q.vm).generation, 8);
}

static void voters_that_do_not_know_either_are_an_alarm(void **state)
{
	struct script s;
	prepare(state, &s, DECIDE_PRIMARY);
	row(&s, (struct decide_facts){.ownership = OWN_UNKNOWN});
	row(&s, (struct decide_facts){.ownership = OWN_UNKNOWN});
	row(&s, (struct decide_facts){.ownership = OWN_LOST});
	expect(&s, ACT_DESTROY, "begin stuck listen");
}

static void voters_that_do_not_answer_are_an_alarm(void **state)
{
	struct vm_fixture *f = *state;
	struct script s;
	prepare(state, &s, DECIDE_PRIMARY);
	world_set_reachable(f->w, 1);
	row(&s, (struct decide_facts){.ownership = OWN_UNKNOWN});
	row(&s, (struct decide_facts){.ownership = OWN_LOST});
	expect(&s, ACT_DESTROY, "begin stuck listen");
	assert_false(s.q.answered);
}

static void who_waits_asks_what_is_decided_meanwhile_if_the_role_wants_it(void **state)
{
	struct vm_fixture *f = *state;
	struct script s;
	struct own_record theirs = world_record(8, "hostA", "");
	prepare(state, &s, DECIDE_STANDBY);
	s.q.config.head_start = 3600 * MC_SEC;
	row(&s, (struct decide_facts){.image_complete = true});
	row(&s, (struct decide_facts){.image_complete = true});
	row(&s, (struct decide_facts){.ownership = OWN_LOST});
	world_decide(f->w, &theirs);
	s.q.look = true;
	expect(&s, ACT_DESTROY, "begin listen listen");
	assert_true(s.q.answered);
	assert_int_equal(vm_newest_record(s.q.vm).generation, 8);
}

static void who_waits_asks_nobody_if_the_role_does_not_want_it(void **state)
{
	struct vm_fixture *f = *state;
	struct script s;
	struct own_record theirs = world_record(8, "hostA", "");
	prepare(state, &s, DECIDE_STANDBY);
	s.q.config.head_start = 3600 * MC_SEC;
	row(&s, (struct decide_facts){.image_complete = true});
	row(&s, (struct decide_facts){.ownership = OWN_LOST});
	world_decide(f->w, &theirs);
	expect(&s, ACT_DESTROY, "begin listen");
	assert_int_equal(vm_newest_record(s.q.vm).generation, 7);
}

/* --- the facts that every role has ------------------------------------------------------------ */

static void facts(void **state, bool gate, bool quit)
{
	struct vm_fixture *f = *state;
	struct script s;
	prepare(state, &s, DECIDE_PRIMARY);
	world_set_quorate(f->w, gate);
	s.q.vm->quit = quit;
	s.q.proposed = quit;
	row(&s, (struct decide_facts){.ownership = OWN_LOST});
	expect(&s, ACT_DESTROY, "");
	assert_int_equal(s.seen.quorate, gate);
	assert_int_equal(s.seen.leaving, quit);
	assert_int_equal(s.seen.proposed, quit);
	assert_int_equal(s.seen.role, DECIDE_PRIMARY);
	assert_true(s.seen.guest_gone); /* there is none */
	assert_int_equal(s.seen.ownership, OWN_CURRENT);
}

static void the_gate_is_a_fact(void **state)
{
	facts(state, false, false);
}

static void the_end_of_mcd_is_a_fact(void **state)
{
	facts(state, true, true);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		VM_TEST(what_is_decided_already_needs_no_asking),
		VM_TEST(a_vote_that_is_won_is_seen_in_the_facts),
		VM_TEST(failover_15_an_outcome_that_is_not_known_is_asked_for_again),
		VM_TEST(failover_15_a_lost_answer_is_found_by_asking_again),
		VM_TEST(failover_15_a_vote_that_is_lost_is_the_others),
		VM_TEST(a_guest_that_powered_off_is_given_to_nobody),
		VM_TEST(rule_10_a_guest_with_disks_that_powered_off_stays_its_owners),
		VM_TEST(a_guest_whose_qemu_ended_is_given_to_its_standby),
		VM_TEST(a_host_that_is_cut_off_asks_nothing),
		VM_TEST(a_majority_is_looked_to_where_nothing_is_known),
		VM_TEST(voters_that_do_not_know_either_are_an_alarm),
		VM_TEST(voters_that_do_not_answer_are_an_alarm),
		VM_TEST(who_waits_asks_what_is_decided_meanwhile_if_the_role_wants_it),
		VM_TEST(who_waits_asks_nobody_if_the_role_does_not_want_it),
		VM_TEST(the_gate_is_a_fact),
		VM_TEST(the_end_of_mcd_is_a_fact),
	};
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
