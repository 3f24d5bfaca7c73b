/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mcd/README.md 1 and 2: the stream breaks at any of its messages, or brings what does not
 * belong. */
#include "common/clock.h"
#include "common/log.h"
#include "mcd/vm/mailbox.h"
#include "mcd/vm/owner.h"
#include "tests/unit/primary/rig.h"

#include <string.h>
#include <xxhash.h>

#define LAST 3

static void held(struct rig *r, const struct own_record *next)
{
	if (!next->standby[0] && fake_guest_runs(r->guest))
		rig_breach(r, "the guest runs before it is decided");
	if (r->held && rig_index(r, "pass") >= 0)
		rig_breach(r, "the network is open before it is decided");
}

static void end_after_last(struct rig *r, enum far_moment m, uint64_t epoch)
{
	if (m == FAR_COMMIT && epoch > LAST)
		r->far.hang_up = true;
}

/* For each of the messages that one side sends. */
static void break_each(bool theirs, uint64_t *where, struct transport_fake_plan *plan)
{
	bool all_done = false;
	for (uint64_t k = 1; !all_done; k++) {
		struct rig *r = rig_new(NULL);
		*where = k;
		r->plan = *plan;
		r->far_posts = theirs;
		r->at = end_after_last;
		r->at_vote = held;
		rig_stick(r, 2);
		rig_protect(r);
		rig_expect_alone(r);
		all_done = r->far.epoch > LAST;
		assert_true(k < 60);
		rig_free(r);
	}
	assert_true(*where > (theirs ? 4 : 8));
}

static void rule_2_the_stream_ends_after_any_message_of_ours(void **state)
{
	struct transport_fake_plan plan = {0};
	break_each(false, &plan.cut_after, &plan);
}

static void rule_2_any_message_of_ours_arrives_broken(void **state)
{
	struct transport_fake_plan plan = {0};
	break_each(false, &plan.corrupt_at, &plan);
}

static void rule_2_any_message_of_ours_arrives_in_part(void **state)
{
	struct transport_fake_plan plan = {0};
	break_each(false, &plan.truncate_at, &plan);
}

static void rule_2_the_stream_ends_after_any_message_of_theirs(void **state)
{
	struct transport_fake_plan plan = {0};
	break_each(true, &plan.cut_after, &plan);
}

static void rule_2_any_message_of_theirs_arrives_broken(void **state)
{
	struct transport_fake_plan plan = {0};
	break_each(true, &plan.corrupt_at, &plan);
}

/* --- an ACK that is none
 * --------------------------------------------------------------------------- */

static void (*spoil)(struct wire_header *ack);

static void answer_badly(struct rig *r, enum far_moment m, uint64_t epoch)
{
	if (m == FAR_COMMIT && epoch == LAST) {
		spoil(&r->far.answer);
		rig_stick(r, 3);
	}
}

static void refused(struct rig *r, void (*how)(struct wire_header *ack))
{
	spoil = how;
	r->at = answer_badly;
	r->at_vote = held;
	rig_protect(r);
	rig_order(r, "release 2", "got COMMIT 3", "vote +2 {hostA, none}", "pass", NULL);
	assert_int_equal(rig_index(r, "release 3"), -1);
	assert_int_equal(rig_count(r, "vote +2 {hostA, none}"), 4);
	assert_int_equal(world_emitted(r->w, "PROTOCOL_ERROR"), 1);
	rig_expect_end(r, "link");
	rig_expect_alone(r);
}

static void epoch_before(struct wire_header *ack)
{
	ack->epoch--;
}

static void rule_1_an_ack_of_another_epoch_is_none(void **state)
{
	refused(*state, epoch_before);
}

static void epoch_after(struct wire_header *ack)
{
	ack->epoch++;
}

static void rule_1_an_ack_of_a_later_epoch_is_none(void **state)
{
	refused(*state, epoch_after);
}

static void other_generation(struct wire_header *ack)
{
	ack->generation--;
}

static void rule_1_an_ack_of_another_generation_is_none(void **state)
{
	refused(*state, other_generation);
}

static void other_digest(struct wire_header *ack)
{
	ack->digest ^= 1;
}

static void rule_1_an_ack_with_another_digest_is_none(void **state)
{
	refused(*state, other_digest);
}

static void other_type(struct wire_header *ack)
{
	ack->type = WIRE_SYNC_OK;
	ack->digest = XXH3_64bits("", 0);
}

static void rule_1_another_message_is_no_ack(void **state)
{
	refused(*state, other_type);
}

/* One too many: it would be the ACK of an epoch that is not there yet. */
static void twice(struct rig *r, enum far_moment m, uint64_t epoch)
{
	if (m == FAR_ACKED && epoch == LAST)
		transport_post(r->far.t, &r->far.answer, NULL, NULL);
}

static void rule_1_an_ack_counts_once(void **state)
{
	struct rig *r = *state;
	r->at = twice;
	rig_protect(r);
	assert_int_equal(rig_index(r, "release 4"), -1);
	rig_expect_end(r, "link");
	rig_expect_alone(r);
}

/* --- an ACK that comes late
 * ------------------------------------------------------------------------ */

/* hostB has gone on from the epoch it has acknowledged; nobody told this host, which stood
 * still. */
static void lose(struct rig *r, enum far_moment m, uint64_t epoch)
{
	struct own_record theirs = world_record(r->g0 + 2, "hostB", "");
	if (m == FAR_COMMIT && epoch == LAST)
		world_decide(r->w, &theirs);
}

static void quick_suspicion(struct config *c)
{
	c->delay = 2 * MC_MSEC;
	c->keepalive_interval = MC_MSEC; /* 5 of them */
}

static void failover_12_after_a_standstill_the_voters_are_asked_first(void **state)
{
	struct rig *r = rig_new(&(struct rig_options){.change = quick_suspicion});
	r->plan.delay_ns = 4 * MC_MSEC; /* each way */
	r->at = lose;
	rig_protect(r);
	rig_order(r, "release 2", "got COMMIT 3", "ack 3", "shut", NULL);
	assert_int_equal(rig_index(r, "release 3"), -1);
	rig_expect_end(r, "record");
	rig_expect_gone(r);
	rig_free(r);
}

/* hostB told it itself, and acknowledges all the same. */
static void lose_aloud(struct rig *r, enum far_moment m, uint64_t epoch)
{
	struct own_record theirs = world_record(r->g0 + 2, "hostB", "");
	if (m != FAR_COMMIT || epoch != LAST)
		return;
	world_decide(r->w, &theirs);
	vm_learned(r->vm, &theirs);
}

static void failover_13_a_newer_record_ends_it_before_the_release(void **state)
{
	struct rig *r = *state;
	r->at = lose_aloud;
	rig_protect(r);
	assert_int_equal(rig_index(r, "release 3"), -1);
	assert_int_equal(rig_count(r, "pass"), 0);
	rig_expect_end(r, "record");
	rig_expect_gone(r);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(rule_2_the_stream_ends_after_any_message_of_ours),
	cmocka_unit_test(rule_2_any_message_of_ours_arrives_broken),
	cmocka_unit_test(rule_2_any_message_of_ours_arrives_in_part),
	cmocka_unit_test(rule_2_the_stream_ends_after_any_message_of_theirs),
	cmocka_unit_test(rule_2_any_message_of_theirs_arrives_broken),
	rig_test(rule_1_an_ack_of_another_epoch_is_none),
	rig_test(rule_1_an_ack_of_a_later_epoch_is_none),
	rig_test(rule_1_an_ack_of_another_generation_is_none),
	rig_test(rule_1_an_ack_with_another_digest_is_none),
	rig_test(rule_1_another_message_is_no_ack),
	rig_test(rule_1_an_ack_counts_once),
	cmocka_unit_test(failover_12_after_a_standstill_the_voters_are_asked_first),
	rig_test(failover_13_a_newer_record_ends_it_before_the_release),
};

rig_main(tests)
