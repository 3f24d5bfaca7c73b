/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mcd/README.md 1, 4 and 7: what leaves the host, and when. */
#include "common/log.h"
#include "mcd/vm/mailbox.h"
#include "mcd/vm/owner.h"
#include "tests/unit/primary/rig.h"

#include <string.h>

#define EPOCHS 5

/* hostB goes away at the COMMIT of the epoch after EPOCHS. */
static void hang_up_after(struct rig *r, enum far_moment m, uint64_t epoch)
{
	if (m == FAR_COMMIT && epoch > EPOCHS)
		r->far.hang_up = true;
}

static void rule_1_output_waits_for_the_ack(void **state)
{
	struct rig *r = *state;
	r->at = hang_up_after;
	rig_protect(r);
	/* Each one, and between its ACK and the next COMMIT. */
	rig_order(r, "got COMMIT 1", "ack 1", "release 1", "got COMMIT 2", "ack 2", "release 2",
		"got COMMIT 3", "ack 3", "release 3", "got COMMIT 4", "ack 4", "release 4",
		"got COMMIT 5", "ack 5", "release 5", "got COMMIT 6", "vote +2 {hostA, none}",
		"pass", NULL);
	assert_int_equal(rig_index(r, "release 6"), -1);
	rig_expect_end(r, "link");
	rig_expect_alone(r);
}

/* What a frame tells must be in the image of the epoch that releases it: the barrier before the
 * scan, the devices before the memory, everything while the guest stands. */
static void rule_1_an_epoch_is_one_moment(void **state)
{
	struct rig *r = *state;
	r->at = hang_up_after;
	rig_protect(r);
	rig_order(r, "ack 1", "barrier 2", "got COMMIT 2", NULL);
	int at = rig_index(r, "barrier 2");
	static const char *const steps[] = {"guest pause", "barrier 2", "guest save",
		"guest collect", "guest cont", "guest stood-still"};
	for (int i = 0; i < 6; i++)
		assert_string_equal(r->notes[at - 1 + i], steps[i]);
}

static void rule_7_the_hold_begins_before_the_vote(void **state)
{
	struct rig *r = *state;
	r->at = hang_up_after;
	rig_protect(r);
	rig_order(r, "guest pause", "hold 1", "guest save", "got COMMIT 1", "ack 1",
		"vote +1 {hostA, hostB}", "got PROTECTED 1", NULL);
	rig_order(r, "vote +1 {hostA, hostB}", "release 1", NULL);
	rig_expect_alone(r);
}

static void no_vote(struct rig *r, const struct own_record *next)
{
	if (next->standby[0])
		rig_breach(r, "a standby is named that has no image");
}

static void hang_up_at_1(struct rig *r, enum far_moment m, uint64_t epoch)
{
	r->far.hang_up = m == FAR_COMMIT;
}

static void rule_7_a_standby_without_the_first_epoch_is_not_named(void **state)
{
	struct rig *r = *state;
	r->at = hang_up_at_1;
	r->at_vote = no_vote;
	rig_protect(r);
	/* The hold ends by the voters' word all the same: the ACK may have been on its way. */
	rig_order(r, "hold 1", "vote +1 {hostA, none}", "pass", NULL);
	rig_expect_alone(r);
}

/* At the vote that names hostB, somebody has been faster. */
static void lose_the_naming(struct rig *r, const struct own_record *next)
{
	struct own_record other = world_record(r->g0 + 1, "hostA", "hostC");
	if (next->standby[0])
		world_decide(r->w, &other);
}

static void rule_7_nothing_is_released_under_another_record(void **state)
{
	struct rig *r = *state;
	r->at_vote = lose_the_naming;
	rig_protect(r);
	rig_order(r, "ack 1", "vote +1 {hostA, hostB}", "vote +2 {hostA, none}", "pass", NULL);
	assert_int_equal(rig_index(r, "release 1"), -1);
	rig_expect_end(r, "record");
	rig_expect_alone(r);
}

static void stick_the_naming(struct rig *r, const struct own_record *next)
{
	if (next->standby[0] && rig_index(r, "release 1") >= 0)
		rig_breach(r, "released before it was decided");
}

static void rule_7_the_release_waits_for_the_vote(void **state)
{
	struct rig *r = *state;
	r->at = hang_up_after;
	r->at_vote = stick_the_naming;
	rig_stick(r, 7);
	rig_protect(r);
	assert_int_equal(rig_count(r, "vote +1 {hostA, hostB}"), 8);
	rig_order(r, "vote +1 {hostA, hostB}", "release 1", NULL);
	rig_expect_alone(r);
}

static void rule_4_epochs_count_from_1_without_gaps(void **state)
{
	struct rig *r = *state;
	r->at = hang_up_after;
	rig_protect(r); /* far.c looks at each message's number */
	assert_int_equal(r->far.epoch, EPOCHS + 1);
	for (int i = 1; i <= EPOCHS + 1; i++) {
		char note[RIG_NOTE];
		snprintf(note, sizeof note, "got COMMIT %d", i);
		assert_int_equal(rig_count(r, note), 1);
		snprintf(note, sizeof note, "barrier %d", i);
		assert_int_equal(rig_count(r, note), 1);
	}
}

static void rule_4_a_session_has_the_generation_of_its_record(void **state)
{
	struct rig *r = *state;
	struct own_record asked[4];
	r->at = hang_up_after;
	rig_protect(r);
	assert_int_equal(r->far.generation, r->g0 + 1);
	assert_int_equal(world_proposals(r->w, asked, 4), 2);
	assert_int_equal(asked[0].generation, r->g0 + 1);
	assert_string_equal(asked[0].standby, "hostB");
	assert_int_equal(asked[1].generation, r->g0 + 2);
	assert_int_equal(r->vm->rec.generation, r->g0 + 2);
}

static void rule_4_each_protection_is_a_new_generation(void **state)
{
	struct rig *r = *state;
	r->at = hang_up_after;
	rig_protect(r);
	rig_expect_alone(r);
	rig_again(r);
	rig_protect(r);
	assert_int_equal(r->far.generation, r->g0 + 1); /* g0 is 2 more now */
	assert_int_equal(r->far.epoch, EPOCHS + 1);
	rig_order(r, "hold 1", "got COMMIT 1", "vote +1 {hostA, hostB}", "release 1",
		"got COMMIT 2", NULL);
	rig_expect_alone(r);
}

/* Nothing was held yet, and none was asked. */
static void hang_up_while_syncing(struct rig *r, enum far_moment m, uint64_t epoch)
{
	r->far.hang_up = m == FAR_SYNC_END;
}

static void rule_7_a_protection_that_never_began_changes_nothing(void **state)
{
	struct rig *r = *state;
	struct own_record asked[1];
	r->at = hang_up_while_syncing;
	rig_protect(r);
	assert_int_equal(rig_index(r, "hold 1"), -1);
	assert_int_equal(world_proposals(r->w, asked, 1), 0);
	rig_expect_decided(r, 0, "hostA", "");
	rig_expect_alone(r);
}

static const struct CMUnitTest tests[] = {
	rig_test(rule_1_output_waits_for_the_ack),
	rig_test(rule_1_an_epoch_is_one_moment),
	rig_test(rule_7_the_hold_begins_before_the_vote),
	rig_test(rule_7_a_standby_without_the_first_epoch_is_not_named),
	rig_test(rule_7_nothing_is_released_under_another_record),
	rig_test(rule_7_the_release_waits_for_the_vote),
	rig_test(rule_7_a_protection_that_never_began_changes_nothing),
	rig_test(rule_4_epochs_count_from_1_without_gaps),
	rig_test(rule_4_a_session_has_the_generation_of_its_record),
	rig_test(rule_4_each_protection_is_a_new_generation),
};

rig_main(tests)
