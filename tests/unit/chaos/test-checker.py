# SPDX-License-Identifier: GPL-2.0-or-later
"""The verdict of the campaign's checker on histories that are known: true ones, and planted divergences."""
import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../chaos"))

import checker  # noqa: E402
import jobs  # noqa: E402

A, B = "hostA", "hostB"
MS = 1_000_000


def event(ms, host, name, **data):
    return {"event": name, "time": ms * MS, "host": host, "data": data}


def vote(ms, host, generation, owner, standby):
    return [event(ms, host, "VOTE_STARTED", generation=generation, owner=owner, standby=standby),
            event(ms + 1, host, "VOTE_WON", generation=generation, owner=owner)]


def whole(ms, host):
    return [event(ms, host, "STATE_CHANGED", **{"from": "standby-syncing", "to": "standby"})]


def runs(ms, host):
    return [event(ms, host, "RUNNING", generation=0)]


# hostB has the VM and moves it to hostA, which is protected by hostB 0.7 s later; hostA is isolated, and
# hostB takes over by vote.
MOVED = vote(1000, B, 7, A, "") + runs(1010, A)
NAMED = vote(1700, A, 8, A, B)
TAKEN = vote(2600, B, 9, B, "") + runs(2610, B)
SEEN = [(500, B), (1020, A), (2500, A), (2620, B), (3000, B)]


def verdict(events, frames, primary=B):
    named, running = checker.named_and_running(sorted(events, key=lambda e: e["time"]))
    return [kind for kind, _ in checker.frame_violations([(ms * MS, port) for ms, port in frames], primary,
                                                         named, running)[0]]


class Frames(unittest.TestCase):
    def test_a_standby_anew_between_two_faults_may_take_over(self):
        self.assertEqual(verdict(MOVED + NAMED + TAKEN, SEEN), [])

    def test_the_standby_s_own_word_is_as_good(self):
        """The primary lost its power before it could tell."""
        self.assertEqual(verdict(MOVED + whole(1690, B) + TAKEN, SEEN), [])

    def test_the_old_host_still_sends_in_such_a_round(self):
        planted = SEEN[:-1] + [(2700, A), (3000, B)]
        self.assertEqual(verdict(MOVED + NAMED + TAKEN, planted)[:1], ["diverged"])

    def test_the_host_it_was_moved_from_sends_before_it_is_the_standby(self):
        planted = [(500, B), (1020, A), (1300, B), (1310, A)] + SEEN[2:]
        self.assertEqual(verdict(MOVED + NAMED + TAKEN, planted)[0], "diverged")

    def test_a_host_that_was_never_named_anew_sends(self):
        self.assertEqual(verdict(MOVED + TAKEN, SEEN), ["diverged"])

    def test_a_vote_that_was_not_won_names_nobody(self):
        self.assertEqual(verdict(MOVED + NAMED[:1] + TAKEN, SEEN), ["diverged"])

    def test_the_other_is_named_not_this_one(self):
        self.assertEqual(verdict(MOVED + vote(1700, A, 8, A, "hostC") + TAKEN, SEEN), ["diverged"])

    def test_a_standby_that_was_left_behind_sends(self):
        self.assertEqual(verdict(MOVED + NAMED + vote(2000, A, 9, A, "") + runs(2010, A), SEEN), ["diverged"])

    def test_a_late_word_of_an_old_naming_is_none(self):
        """hostB had it before the VM left it."""
        self.assertEqual(verdict(vote(300, A, 6, A, B) + MOVED + TAKEN, SEEN), ["diverged"])

    def test_the_first_frame_is_from_the_wrong_host(self):
        self.assertEqual(verdict([], [(100, A), (200, B)]), ["diverged"])

    def test_a_host_that_took_over_may_be_silent_for_a_while(self):
        """hostA takes over, names hostB, and speaks only then; hostB takes over from it."""
        events = runs(1000, A) + vote(1400, A, 8, A, B) + runs(2000, B)
        self.assertEqual(verdict(events, [(500, B), (1600, A), (2010, B)]), [])


class Jobs(unittest.TestCase):
    def test_each_round_is_run_once(self):
        for rounds, n in ((500, 3), (2, 4), (1, 1)):
            run = [k for first, mine in jobs.shares(7, rounds, n) for k in range(first, first + mine)]
            self.assertEqual(run, list(range(7, 7 + rounds)))

    def test_violations_are_summed(self):
        self.assertEqual(jobs.total([{"rounds": 2, "lost": 0}, {"rounds": 3, "lost": 1}]), {"rounds": 5, "lost": 1})


if __name__ == "__main__":
    unittest.main()
