/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mcd/README.md 8, and failover/README.md 12, 13 and 15: a standby and the voters. */
#include "tests/unit/standby/rig.h"

#include "mcd/vm/mailbox.h"
#include "mcd/vm/owner.h"

/* What was so at each word to the voters: nothing was acknowledged, activated or seen, and each
 * asked for the same. */
static void expect_held(struct rig *r, size_t n)
{
	assert_int_equal(r->n_votes, n);
	for (size_t i = 0; i < n; i++) {
		const struct rig_vote *v = &r->votes[i];
		assert_int_equal(v->asked.generation, RIG_GENERATION + 1);
		assert_string_equal(v->asked.owner, "hostB");
		assert_string_equal(v->asked.standby, "");
		assert_int_equal(v->acknowledged, -ECONNRESET);
		assert_false(v->activated);
		assert_false(v->runs);
		assert_false(v->visible);
		assert_true(v->kept);
	}
}

/* All of epoch 3 but its COMMIT, which comes at the moment of the vote. */
static void fall_silent_before_the_commit(struct rig *r)
{
	rig_protect(r);
	far_slab(r);
	far_devices(r);
	far_settled(r);
	far_dies(r);
}

/* --- 12 --------------------------------------------------------------------------------------- */

static void rule_8_the_link_is_closed_before_the_first_word_to_the_voters(void **state)
{
	struct rig *r = *state;
	fall_silent_before_the_commit(r);
	expect_runs(r, &r->image);
	expect_held(r, 1);
	far_expect_nothing(r);
}

static void comes_back(struct rig *r, size_t n)
{
	world_suspect(r->w, "hostA", n > 2);
	vm_ring(r->vm, WAKE_SUSPECT);
}

static void failover_12_nothing_is_acknowledged_to_a_primary_that_is_back(void **state)
{
	struct rig *r = *state;
	world_votes(r->w, WORLD_STUCK, 4);
	r->at_vote = comes_back;
	fall_silent_before_the_commit(r);
	expect_runs(r, &r->image);
	expect_held(r, 5);
	far_expect_nothing(r);
}

static struct transport *forced_from;
static int force_acknowledged;

static int on_force(void *ctx, const char *vm, const struct own_record *next,
	struct own_record *ret_decided, struct mc_error *err)
{
	struct wire_header h = {
		.type = WIRE_SYNC_END, .generation = RIG_GENERATION, .digest = XXH3_64bits("", 0)};
	struct world *w = ctx;
	struct netbuf *nb = netbuf_fake_find("vm1");
	force_acknowledged = transport_post(forced_from, &h, NULL, NULL);
	assert_int_equal(netbuf_fake_calls(nb, NETBUF_FAKE_PASS), 0);
	world_decide(w, next);
	*ret_decided = *next;
	return 0;
}

static void rule_8_the_operators_word_closes_the_link_as_well(void **state)
{
	struct rig *r = *state;
	world_config(r->w)->failover_automatic = false;
	r->ops.force = on_force;
	rig_protect(r);
	forced_from = r->far;
	force_acknowledged = 0;
	world_others_hear(r->w, true); /* so that its data counts, and the link is open */
	world_suspect(r->w, "hostA", true);
	rig_call(r, VM_TAKEOVER, true);
	expect_runs(r, &r->image);
	assert_int_equal(force_acknowledged, -ECONNRESET);
	assert_int_equal(r->n_votes, 0);
}

/* The verb is refused, and has closed the link all the same. */
static void a_takeover_that_needs_force_leaves_the_standby_asking(void **state)
{
	struct rig *r = *state;
	rig_protect(r);
	world_suspect(r->w, "hostA", true);
	rig_call(r, VM_TAKEOVER, false);
	expect_runs(r, &r->image);
	expect_held(r, 1);
}

/* --- 13 --------------------------------------------------------------------------------------- */

static void failover_13_nothing_runs_while_no_majority_answers(void **state)
{
	struct rig *r = *state;
	world_votes(r->w, WORLD_STUCK, 3);
	fall_silent_before_the_commit(r);
	expect_runs(r, &r->image);
	expect_held(r, 4);
	assert_int_equal(world_emitted(r->w, "VOTE_STUCK"), 3);
	assert_true(world_emitted(r->w, "ALARM") >= 1);
}

static void failover_13_a_decision_whose_answer_is_lost_is_found_by_asking_again(void **state)
{
	struct rig *r = *state;
	world_votes(r->w, WORLD_UNHEARD, 1);
	fall_silent_before_the_commit(r);
	expect_runs(r, &r->image);
	expect_held(r, 2);
	assert_int_equal(r->vm->rec.generation, RIG_GENERATION + 1);
}

static void primary_wins(struct rig *r, size_t n)
{
	struct own_record alone = world_record(RIG_GENERATION + 1, "hostA", "");
	if (n == 1)
		world_decide(r->w, &alone);
}

static void failover_13_a_vote_that_is_lost_ends_the_copy(void **state)
{
	struct rig *r = *state;
	r->at_vote = primary_wins;
	fall_silent_before_the_commit(r);
	expect_gone(r);
	expect_held(r, 1);
	assert_int_equal(world_emitted(r->w, "DISCARDED"), 1);
}

static void failover_13_who_was_dropped_does_not_ask(void **state)
{
	struct rig *r = *state;
	struct own_record alone = world_record(RIG_GENERATION + 1, "hostA", "");
	rig_protect(r);
	world_decide(r->w, &alone);
	vm_learned(r->vm, &alone);
	far_dies(r);
	expect_gone(r);
	assert_int_equal(r->n_votes, 0);
}

static void failover_13_who_was_named_by_a_later_session_has_no_image(void **state)
{
	struct rig *r = *state;
	struct own_record later = world_record(RIG_GENERATION + 2, "hostA", "hostB");
	rig_protect(r);
	world_decide(r->w, &later);
	vm_learned(r->vm, &later); /* and the connection looks as good as ever */
	expect_gone(r);
	assert_int_equal(r->n_votes, 0);
}

static void failover_13_a_vm_that_nobody_owns_is_not_taken_over(void **state)
{
	struct rig *r = *state;
	struct own_record nobody = world_record(RIG_GENERATION + 1, "", "");
	rig_protect(r);
	world_decide(r->w, &nobody);
	vm_learned(r->vm, &nobody);
	far_dies(r);
	expect_gone(r);
	assert_int_equal(r->n_votes, 0);
}

static unsigned looks;

static bool gate_opens_after_three_looks(void *ctx)
{
	return ++looks > 3;
}

static void failover_13_a_host_that_is_cut_off_asks_nobody(void **state)
{
	struct rig *r = *state;
	rig_protect(r);
	looks = 0;
	r->ops.quorate = gate_opens_after_three_looks;
	far_dies(r);
	expect_runs(r, &r->image);
	expect_held(r, 1);
	assert_true(looks > 3);
}

/* --- 15 --------------------------------------------------------------------------------------- */

static void failover_15_the_same_generation_is_asked_for_until_it_is_decided(void **state)
{
	struct rig *r = *state;
	world_votes(r->w, WORLD_STUCK, 5);
	fall_silent_before_the_commit(r);
	rig_join(r);
	expect_held(r, 6);
	assert_int_equal(world_decided(r->w).generation, RIG_GENERATION + 1);
}

static void decided_for_the_primary_meanwhile(struct rig *r, size_t n)
{
	struct own_record alone = world_record(RIG_GENERATION + 1, "hostA", "");
	if (n == 3)
		world_decide(r->w, &alone);
}

static void failover_15_whatever_was_decided_ends_the_asking(void **state)
{
	struct rig *r = *state;
	world_votes(r->w, WORLD_STUCK, 2);
	r->at_vote = decided_for_the_primary_meanwhile;
	fall_silent_before_the_commit(r);
	expect_gone(r);
	expect_held(r, 3);
}

/* What was asked for may be decided: a record of it must be found, whoever tells of it. */
static void tells_that_it_won(struct rig *r, size_t n)
{
	struct own_record won = world_record(RIG_GENERATION + 1, "hostB", "");
	if (n == 2) {
		world_decide(r->w, &won);
		vm_learned(r->vm, &won);
	}
}

static void failover_15_who_won_by_others_word_goes_on(void **state)
{
	struct rig *r = *state;
	world_votes(r->w, WORLD_STUCK, 2);
	r->at_vote = tells_that_it_won;
	fall_silent_before_the_commit(r);
	expect_runs(r, &r->image);
	expect_held(r, 2);
}

static void quits(struct rig *r, size_t n)
{
	if (n == 2)
		vm_ring(r->vm, WAKE_QUIT);
}

static void failover_15_an_mcd_that_ends_while_it_asks_shows_nothing(void **state)
{
	struct rig *r = *state;
	size_t len;
	world_votes(r->w, WORLD_STUCK, RIG_VOTES);
	r->at_vote = quits;
	fall_silent_before_the_commit(r);
	rig_join(r);
	expect_held(r, 2);
	assert_null(fake_guest_activated(fake_guest_find("vm1"), &len));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(rule_8_the_link_is_closed_before_the_first_word_to_the_voters),
		RIG_TEST(failover_12_nothing_is_acknowledged_to_a_primary_that_is_back),
		RIG_TEST(rule_8_the_operators_word_closes_the_link_as_well),
		RIG_TEST(a_takeover_that_needs_force_leaves_the_standby_asking),
		RIG_TEST(failover_13_nothing_runs_while_no_majority_answers),
		RIG_TEST(failover_13_a_decision_whose_answer_is_lost_is_found_by_asking_again),
		RIG_TEST(failover_13_a_vote_that_is_lost_ends_the_copy),
		RIG_TEST(failover_13_who_was_dropped_does_not_ask),
		RIG_TEST(failover_13_who_was_named_by_a_later_session_has_no_image),
		RIG_TEST(failover_13_a_vm_that_nobody_owns_is_not_taken_over),
		RIG_TEST(failover_13_a_host_that_is_cut_off_asks_nobody),
		RIG_TEST(failover_15_the_same_generation_is_asked_for_until_it_is_decided),
		RIG_TEST(failover_15_whatever_was_decided_ends_the_asking),
		RIG_TEST(failover_15_who_won_by_others_word_goes_on),
		RIG_TEST(failover_15_an_mcd_that_ends_while_it_asks_shows_nothing),
	};
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
