/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/clock.h"
#include "failover/timing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct timing derive(unsigned beat_ms, unsigned misses, unsigned delay_ms, uint64_t rtt)
{
	struct timing_inputs in = {beat_ms * MC_MSEC, misses, delay_ms * MC_MSEC, rtt};
	struct timing t;
	timing_derive(&in, &t);
	return t;
}

static void test_the_worked_timelines(void **state)
{
	struct timing t = derive(50, 5, 100, 200 * MC_USEC);
	assert_int_equal(t.suspect_after, 250 * MC_MSEC);
	assert_int_equal(t.heard_fresh, 125 * MC_MSEC);
	assert_int_equal(t.worst_takeover / MC_MSEC, 580);
	assert_int_equal(t.head_start / MC_MSEC, 610);
	assert_int_equal(t.ack_overdue / MC_MSEC, 1200);
	t = derive(20, 5, 100, 200 * MC_USEC);
	assert_int_equal(t.suspect_after, 100 * MC_MSEC);
	assert_int_equal(t.heard_fresh, 50 * MC_MSEC);
	assert_int_equal(t.worst_takeover / MC_MSEC, 400);
}

static void test_relations_hold_over_the_whole_range(void **state)
{
	static const unsigned beats[] = {5, 20, 50, 1000, 10000}, misses[] = {2, 3, 5, 100};
	static const unsigned delays[] = {1, 10, 100, 10000};
	static const uint64_t rtts[] = {0, 200 * MC_USEC, 10 * MC_MSEC, 200 * MC_MSEC};
	for (size_t i = 0; i < 5 * 4 * 4 * 4; i++) {
		unsigned beat = beats[i % 5], k = misses[i / 5 % 4], delay = delays[i / 20 % 4];
		uint64_t rtt = rtts[i / 80];
		struct timing t = derive(beat, k, delay, rtt);
		/* alive: heard within a beat; dead: as old as the suspicion */
		assert_true(t.heard_fresh > beat * MC_MSEC && t.heard_fresh < t.suspect_after);
		/* the primary can reach its decision within the head start */
		assert_true(t.head_start > t.suspect_after + delay * MC_MSEC + 2 * rtt);
		/* silence is noticed by keep-alives before an ACK counts as overdue */
		assert_true(t.ack_overdue > t.suspect_after + delay * MC_MSEC);
		assert_true(t.worst_takeover > t.suspect_after + t.ask_heard);
		assert_true(t.vote_retry > 0 && t.vote_retry < t.head_start);
		assert_true(t.ask_heard > rtt);
		/* A primary that lives has long decided by then. */
		assert_true(t.unnamed_wait > t.head_start);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_worked_timelines),
		cmocka_unit_test(test_relations_hold_over_the_whole_range),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
