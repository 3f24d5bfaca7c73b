/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every time-out, derived.  Worked timelines of a takeover, the primary loses power at 0; delay
 * 100 ms, round trip 0.2 ms.  The last beat left at worst just before, so silence counts from 0.
 *
 *                                              50 ms x 5 (default)   20 ms x 5
 *   last keep-alive heard                           0 ms                0 ms
 *   k beats missed: suspected (suspect_after)     250 ms              100 ms
 *   ... and noticed at the latest one beat later  300 ms              120 ms
 *   other voters asked "did you hear it?"
 *     typically one round trip; a voter that
 *     died too costs ask_heard, 20 ms             320 ms              140 ms
 *     dead: their last beat is as old as ours,
 *     so older than heard_fresh                   125 ms               50 ms
 *   vote: typically the fast ballot, one round
 *     trip and one disk write; at worst another
 *     round with promises: 3 round trips, 3
 *     disk writes of 20 ms                        381 ms              201 ms
 *   last epoch applied, state loaded, running;
 *     8 ms measured, 200 ms allowed               581 ms              401 ms  = worst_takeover
 *
 * The replication link is cut, both hosts live, the primary is preferred (default figures):
 *
 *     0 ms  both see the connection break, or both miss the first beat
 *   250 ms  at the latest both suspect each other; the third voter still hears both
 *           the standby waits: head_start counts from its loss of the connection
 *   350 ms  the primary has reached the end of its epoch (delay) and proposes itself
 *   411 ms  decided at worst; the standby learns it from the broadcast and discards
 *   611 ms  head_start over: had the primary not managed, the standby proposes now
 *
 * A standby whose host lives but which acknowledges nothing (hung process, stuck link) costs the
 * guest a stall of ack_overdue, 1.2 s: long enough for one retransmission on a lossy network and a
 * slow disk, short enough for a TCP connection to the guest to survive.
 */
#include "failover/timing.h"
#include "common/clock.h"

#define DISK_WRITE (20 * MC_MSEC)  /* one fdatasync on a busy, healthy disk */
#define ACTIVATE   (200 * MC_MSEC) /* finish applying, load devices, announce, run */
#define MARGIN     (200 * MC_MSEC) /* a scheduling hiccup on either host */

static uint64_t longest(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

void timing_derive(const struct timing_inputs *in, struct timing *ret)
{
	uint64_t beat = in->keepalive_interval, rtt = in->round_trip;
	uint64_t vote = 3 * rtt + 3 * DISK_WRITE;
	struct timing t;

	t.suspect_after = beat * in->keepalive_misses;
	/* All are sent each beat at the same time, so whoever lives is heard within one beat and
	 * some jitter, and whoever is suspected is as old everywhere as here: half way between. */
	t.heard_fresh = longest(t.suspect_after / 2, beat + beat / 2);
	t.ack_overdue = 2 * in->delay + longest(MC_SEC, 4 * t.suspect_after) + 2 * rtt;
	/* The primary's way to its decision: suspicion, end of the epoch, vote. */
	t.head_start = t.suspect_after + in->delay + vote + MARGIN;
	t.vote_retry = longest(20 * MC_MSEC, 4 * rtt);
	/* Long after its head start, in which it has asked for the VM if it could. */
	t.unnamed_wait = longest(15 * MC_SEC, 2 * t.head_start);
	t.command = 5 * MC_SEC;
	t.ask_heard = longest(20 * MC_MSEC, 4 * rtt);
	t.worst_takeover = t.suspect_after + beat + t.ask_heard + vote + ACTIVATE;
	*ret = t;
}
