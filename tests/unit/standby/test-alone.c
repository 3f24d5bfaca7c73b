/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A standby whose stream is over: whether it waits, asks, or gives up its image (the rows of
 * failover/decide.c that a standby has, as behaviour).  It is made by hand, so that the times that
 * count are the test's.
 */
#include "mcd/standby/ends.h"
#include "mcd/standby/greet.h"
#include "mcd/standby/waiting.h"
#include "mcd/vm/machine.h"
#include "mcd/vm/mailbox.h"
#include "mcd/vm/owner.h"
#include "tests/unit/standby/rig.h"

#include <assert.h>
#include <sys/eventfd.h>

#define NEVER (3600 * MC_SEC)

/* What the test says of the standby. */
static struct {
	uint64_t committed, head_start, unnamed_wait, silent_for;
	bool named, linked, operator;
	void (*at_look)(struct rig *r, unsigned n); /* a majority is asked for the newest record */
	unsigned looks;
	struct rig *rig;
	uint64_t began, voted, ended;
} t;

static int (*current_of_world)(
	void *ctx, const char *vm, uint64_t deadline, struct own_record *ret, struct mc_error *err);

static int current(
	void *ctx, const char *vm, uint64_t deadline, struct own_record *ret, struct mc_error *err)
{
	t.looks++;
	if (t.at_look)
		t.at_look(t.rig, t.looks);
	return current_of_world(ctx, vm, deadline, ret, err);
}

static void note_time(struct rig *r, size_t n)
{
	if (n == 1)
		t.voted = mc_now();
}

static void by_hand(struct rig *r)
{
	struct mc_error err = MC_ERROR_INIT;
	struct standby s = {.vm = r->vm, .primary = "hostA", .generation = RIG_GENERATION};
	s.staged_tail = &s.staged;
	s.timing = (struct timing){.suspect_after = 10 * MC_MSEC,
		.head_start = t.head_start,
		.unnamed_wait = t.unnamed_wait,
		.vote_retry = MC_MSEC,
		.ask_heard = MC_MSEC,
		.heard_fresh = 100 * MC_MSEC,
		.ack_overdue = MC_SEC};
	if (vm_prepare(r->vm, &err) < 0 || waiting_launch(&s, &err) < 0)
		abort();
	s.committed = s.applied = t.committed;
	if (t.committed) {
		s.devices = (uint8_t *)strdup(r->image.devices);
		s.devices_len = strlen(r->image.devices);
	}
	if (t.named) {
		struct own_record rec = world_record(RIG_GENERATION, "hostA", "hostB");
		vm_set_record(r->vm, &rec);
	}
	s.wanted = t.operator;
	struct transport *near = NULL;
	if (t.linked && transport_fake_pair(NULL, &r->far, &near, NULL) == 0)
		s.link = near;
	t.began = mc_now();
	s.link_down_at = t.began;
	s.last_received = t.began - t.silent_for;
	while (ends_look(&s, "the stream is over")) /* it may go on: it has nothing to say here */
		if (r->vm->quit || t.linked)
			break;
	t.ended = mc_now();
	standby_free(&s);
}

static struct rig *prepare(void **state)
{
	struct rig *r = *state;
	memset(&t, 0, sizeof t);
	t.rig = r;
	t.committed = 1;
	t.head_start = t.unnamed_wait = NEVER;
	r->image.epoch = 1;
	snprintf(r->image.devices, sizeof r->image.devices, "some devices");
	current_of_world = r->ops.current;
	r->ops.current = current;
	r->at_vote = note_time;
	return r;
}

static void named(struct rig *r)
{
	struct own_record rec = world_record(RIG_GENERATION, "hostA", "hostB");
	t.named = true;
	world_decide(r->w, &rec);
	world_know(r->w, &rec);
}

static void look_at_it(struct rig *r)
{
	rig_make(r);
	rig_run(r, by_hand);
	rig_join(r);
}

/* --- it is named, and its primary may live ---------------------------------------------------- */

static void primary_goes_on(struct rig *r, unsigned n)
{
	struct own_record alone = world_record(RIG_GENERATION + 1, "hostA", "");
	if (n == 3)
		world_decide(r->w, &alone);
}

static void the_primary_that_is_heard_goes_first(void **state)
{
	struct rig *r = prepare(state);
	named(r);
	t.at_look = primary_goes_on;
	look_at_it(r);
	expect_gone(r);
	assert_int_equal(r->n_votes, 0);
}

static void the_primary_that_others_hear_goes_first(void **state)
{
	struct rig *r = prepare(state);
	named(r);
	world_suspect(r->w, "hostA", true);
	world_others_hear(r->w, true);
	t.at_look = primary_goes_on;
	look_at_it(r);
	expect_gone(r);
	assert_int_equal(r->n_votes, 0);
}

static void the_head_start_ends(void **state)
{
	struct rig *r = prepare(state);
	named(r);
	world_suspect(r->w, "hostA", true);
	world_others_hear(r->w, true);
	t.head_start = 20 * MC_MSEC;
	look_at_it(r);
	expect_runs(r, &r->image);
	assert_true(t.voted - t.began >= t.head_start);
}

static void a_primary_that_nobody_hears_has_no_head_start(void **state)
{
	struct rig *r = prepare(state);
	named(r);
	world_suspect(r->w, "hostA", true);
	look_at_it(r);
	expect_runs(r, &r->image);
}

static void the_primary_is_heard_again(struct rig *r, size_t n)
{
	if (n == 2)
		world_suspect(r->w, "hostA", false);
}

static void failover_15_who_has_asked_goes_on_asking_whatever_changes(void **state)
{
	struct rig *r = prepare(state);
	named(r);
	world_suspect(r->w, "hostA", true);
	world_votes(r->w, WORLD_STUCK, 4);
	r->at_vote = the_primary_is_heard_again;
	look_at_it(r);
	expect_runs(r, &r->image);
	assert_int_equal(r->n_votes, 5);
}

static void data_is_a_sign_of_life_while_others_hear_the_primary(void **state)
{
	struct rig *r = prepare(state);
	named(r);
	world_suspect(r->w, "hostA", true);
	world_others_hear(r->w, true);
	t.linked = true;
	look_at_it(r);
	assert_int_equal(r->n_votes, 0);
	assert_int_equal(t.looks, 0);
	assert_false(fake_guest_is_free(fake_guest_find("vm1"))); /* it goes on as it was */
}

static void data_is_none_while_nobody_hears_the_primary(void **state)
{
	struct rig *r = prepare(state);
	named(r);
	world_suspect(r->w, "hostA", true);
	t.linked = true;
	look_at_it(r);
	expect_runs(r, &r->image);
	assert_int_equal(r->votes[0].acknowledged, -ECONNRESET);
}

static void a_connection_without_data_is_none(void **state)
{
	struct rig *r = prepare(state);
	named(r);
	world_suspect(r->w, "hostA", true);
	world_others_hear(r->w, true);
	t.linked = true;
	t.silent_for = MC_SEC;
	t.head_start = MC_MSEC;
	look_at_it(r);
	expect_runs(r, &r->image);
	assert_int_equal(r->votes[0].acknowledged, -ECONNRESET);
}

/* --- failover = manual ------------------------------------------------------------------------ */

static void the_operator_speaks(struct rig *r, unsigned n)
{
	assert(!r->n_votes);
	if (n == 3)
		rig_call(r, VM_TAKEOVER, false);
}

static void a_manual_failover_waits_for_the_operator(void **state)
{
	struct rig *r = prepare(state);
	named(r);
	world_config(r->w)->failover_automatic = false;
	world_suspect(r->w, "hostA", true);
	t.at_look = the_operator_speaks;
	look_at_it(r);
	expect_runs(r, &r->image);
	assert_int_equal(r->n_votes, 1);
	assert_true(t.looks >= 3);
}

/* While it is heard, `mcctl takeover` says where to go instead. */
static void the_operator_speaks_of_a_primary_that_lives(struct rig *r, unsigned n)
{
	if (n == 1)
		rig_call(r, VM_TAKEOVER, true);
	else if (n == 3)
		primary_goes_on(r, 3);
}

static void the_operators_word_does_not_take_a_vm_from_a_primary_that_lives(void **state)
{
	struct rig *r = prepare(state);
	named(r);
	t.at_look = the_operator_speaks_of_a_primary_that_lives;
	look_at_it(r);
	expect_gone(r);
	assert_int_equal(world_emitted(r->w, "FORCED"), 0);
	assert_int_equal(r->n_votes, 0);
}

/* --- whether it is named is not known --------------------------------------------------------- */

static void the_naming_is_found(struct rig *r, unsigned n)
{
	struct own_record rec = world_record(RIG_GENERATION, "hostA", "hostB");
	if (n == 3)
		world_decide(r->w, &rec);
}

static void an_image_that_may_be_named_is_kept(void **state)
{
	struct rig *r = prepare(state);
	t.at_look = the_naming_is_found;
	world_suspect(r->w, "hostA", true);
	look_at_it(r);
	expect_runs(r, &r->image);
	assert_int_equal(r->votes[0].asked.generation, RIG_GENERATION + 1);
}

static void an_image_that_was_not_named_in_time_is_given_up(void **state)
{
	struct rig *r = prepare(state);
	t.unnamed_wait = 20 * MC_MSEC;
	look_at_it(r);
	expect_gone(r);
	assert_true(t.ended - t.began >= t.unnamed_wait);
	assert_int_equal(r->n_votes, 0);
}

static void a_majority_answers_later(struct rig *r, unsigned n)
{
	t.voted = mc_now(); /* the last time nobody answered, at least */
	if (n == 30)
		world_set_reachable(r->w, 3);
}

static void who_cannot_ask_gives_up_nothing(void **state)
{
	struct rig *r = prepare(state);
	t.unnamed_wait = MC_MSEC;
	t.at_look = a_majority_answers_later;
	world_set_reachable(r->w, 1);
	look_at_it(r);
	expect_gone(r);
	assert_true(t.looks >= 30);
}

static void the_primary_is_back(struct rig *r, unsigned n)
{
	if (n == 30)
		world_suspect(r->w, "hostA", false);
}

static void a_primary_that_is_lost_may_have_named_it(void **state)
{
	struct rig *r = prepare(state);
	t.unnamed_wait = MC_MSEC;
	t.at_look = the_primary_is_back;
	world_suspect(r->w, "hostA", true);
	look_at_it(r);
	expect_gone(r);
	assert_true(t.looks >= 30);
}

static void the_primary_offers_another(struct rig *r, unsigned n)
{
	struct link_peer peer = {.name = "hostA", .subject = "vm1", .purpose = LINK_DATA};
	if (n == 3)
		vm_offer_peer(r->vm, eventfd(0, EFD_CLOEXEC), &peer);
}

static void an_image_is_history_once_the_primary_offers_another(void **state)
{
	struct rig *r = prepare(state);
	t.at_look = the_primary_offers_another;
	look_at_it(r);
	expect_gone(r);
	assert_int_equal(t.looks, 3);
	assert_true(vm_offered_by(r->vm, "hostA")); /* it waits for the VM to be idle */
}

static void what_was_never_whole_is_given_up_at_once(void **state)
{
	struct rig *r = prepare(state);
	t.committed = 0;
	world_suspect(r->w, "hostA", true);
	look_at_it(r);
	expect_gone(r);
	assert_int_equal(t.looks, 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(the_primary_that_is_heard_goes_first),
		RIG_TEST(the_primary_that_others_hear_goes_first),
		RIG_TEST(the_head_start_ends),
		RIG_TEST(a_primary_that_nobody_hears_has_no_head_start),
		RIG_TEST(failover_15_who_has_asked_goes_on_asking_whatever_changes),
		RIG_TEST(data_is_a_sign_of_life_while_others_hear_the_primary),
		RIG_TEST(data_is_none_while_nobody_hears_the_primary),
		RIG_TEST(a_connection_without_data_is_none),
		RIG_TEST(a_manual_failover_waits_for_the_operator),
		RIG_TEST(the_operators_word_does_not_take_a_vm_from_a_primary_that_lives),
		RIG_TEST(an_image_that_may_be_named_is_kept),
		RIG_TEST(an_image_that_was_not_named_in_time_is_given_up),
		RIG_TEST(who_cannot_ask_gives_up_nothing),
		RIG_TEST(a_primary_that_is_lost_may_have_named_it),
		RIG_TEST(an_image_is_history_once_the_primary_offers_another),
		RIG_TEST(what_was_never_whole_is_given_up_at_once),
	};
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
