# SPDX-License-Identifier: GPL-2.0-or-later
"""What scripts/check counts, tries again and runs beside what, with jobs that take no time."""
import os
import sys
import tempfile
import time
import unittest

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), "../../.."))
os.chdir(TOP)
sys.path.insert(0, os.path.join(TOP, "scripts/lib"))

from check import plan  # noqa: E402
from check.schedule import Job, Schedule  # noqa: E402
from check.tally import Tally  # noqa: E402

TICK = 0.3


class Jobs(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.times, self.ended = {}, []

    def job(self, name, script="", **options):
        """Notes when it begins and ends."""
        log = os.path.join(self.directory.name, name)
        script = "date +%%s.%%N >%s.log; %s; s=$?; sleep %g; date +%%s.%%N >>%s.log; exit $s" % (log, script or ":", TICK, log)
        return Job(name, ["sh", "-c", script], log, **options)

    def run_all(self, *jobs, cores=2, most=4):
        Schedule(cores, most, self.ended.append).run(jobs)
        for job in jobs:
            if job.status is not None:
                with open(job.out + ".log", encoding="ascii") as f:
                    self.times[job.name] = [float(line) for line in f]

    def together(self, a, b):
        (a0, a1), (b0, b1) = self.times[a], self.times[b]
        return a0 < b1 and b0 < a1

    def test_what_fits_runs_together(self):
        self.run_all(self.job("a", cores=1), self.job("b", cores=1))
        self.assertTrue(self.together("a", "b"))

    def test_what_does_not_fit_waits(self):
        self.run_all(self.job("a", cores=1.2), self.job("b", cores=1))
        self.assertFalse(self.together("a", "b"))

    def test_no_more_than_most_at_a_time(self):
        self.run_all(*(self.job(n, cores=0.1) for n in "abc"), most=2)
        self.assertEqual(sum(self.together(x, y) for x, y in ("ab", "bc", "ac")), 1)

    def test_the_longest_goes_first(self):
        self.run_all(self.job("short", seconds=1), self.job("long", seconds=9), most=1)
        self.assertEqual([j.name for j in self.ended], ["long", "short"])

    def test_alone_is_alone_and_last(self):
        self.run_all(self.job("alone", alone=True, seconds=99), self.job("a"), self.job("b", background=True))
        self.assertFalse(self.together("alone", "a") or self.together("alone", "b"))
        self.assertEqual(self.ended[-1].name, "alone")

    def test_the_background_takes_no_room(self):
        self.run_all(self.job("a", cores=2), self.job("b", cores=2, background=True))
        self.assertTrue(self.together("a", "b"))

    def test_what_needs_another_waits_for_it(self):
        self.run_all(self.job("test", after=("build",)), self.job("build"))
        self.assertFalse(self.together("test", "build"))
        self.assertEqual([j.status for j in self.ended], [0, 0])

    def test_what_needs_one_that_failed_is_not_run(self):
        self.run_all(self.job("far", after=("test",), alone=True), self.job("test", after=("build",)),
                     self.job("build", "(exit 3)"))
        self.assertEqual({j.name: j.status for j in self.ended}, {"build": 3, "test": None, "far": None})

    def test_a_time_limit_is_kept(self):
        job = Job("endless", ["sleep", "1000"], os.path.join(self.directory.name, "endless"), limit=TICK)
        Schedule(1, 1, self.ended.append).run([job])
        self.assertEqual(job.status, 124)

    def test_stop_ends_what_runs_in_order(self):
        out = os.path.join(self.directory.name, "out")
        job = Job("endless", ["sh", "-c", "trap 'echo removed; exit' TERM; echo up; sleep 1000 & wait"], out)
        schedule = Schedule(1, 1, self.ended.append)

        class Interrupt(Exception):
            pass

        def wait_and_interrupt(*_):
            while "up" not in job.text():
                time.sleep(0.01)
            raise Interrupt
        schedule._start_one = schedule._start

        def start(waiting):
            schedule._start_one(waiting)
            wait_and_interrupt()
        schedule._start = start
        with self.assertRaises(Interrupt):
            schedule.run([job])
        schedule.stop()
        self.assertIn("removed", job.text())


class Counts(unittest.TestCase):
    def count(self, status, *lines):
        tally = Tally()
        tally.lines("x", status, "\n".join(lines))
        return tally.passed, len(tally.failures), len(tally.skipped)

    def test_lines_count(self):
        self.assertEqual(self.count(1, "ok - a", "# b", "not ok - c", "skip - d", "ok - e"), (2, 1, 1))

    def test_a_status_without_a_line_counts(self):
        self.assertEqual(self.count(0, "hello"), (1, 0, 0))
        self.assertEqual(self.count(3, "ok - a"), (1, 1, 0))
        self.assertEqual(self.count(-9), (0, 1, 0))

    def test_77_is_a_skip_unless_something_was_said(self):
        self.assertEqual(self.count(77, "no kernel"), (0, 0, 1))
        self.assertEqual(self.count(77, "skip - no kernel"), (0, 0, 1))
        self.assertEqual(self.count(77, "not ok - a"), (0, 1, 0))


class Plan(unittest.TestCase):
    def scenarios(self, only=".", **level):
        return {j.name: j for j in plan.scenarios(plan.Level(**level), only, str)}

    def test_every_weight_is_one_of_a_scenario(self):
        self.assertEqual(set(plan.weights()) - set(self.scenarios(nightly=True)), set())

    def test_levels(self):
        quick, usual, nightly = (set(self.scenarios(**x)) for x in ({"quick": True}, {}, {"nightly": True}))
        self.assertTrue(quick and quick < usual < nightly)

    def test_only_takes_a_pattern(self):
        self.assertEqual(set(self.scenarios("^failover/link")), {"failover/link_cut"})

    def test_unknown_words_are_refused(self):
        with tempfile.NamedTemporaryFile("w", suffix=".py") as f:
            f.write("# check: plain, besides others\n")
            f.flush()
            with self.assertRaises(ValueError):
                plan.marks(f.name)

    def test_only_what_is_needed_is_built(self):
        def builds(only):
            jobs = list(plan.scenarios(plan.Level(), only, str))
            return [j.name for j in plan.builds(jobs, str)]
        self.assertEqual(builds("failover/link_cut"), [plan.SAN_BUILD])
        self.assertEqual(builds("bench/pause"), [plan.PLAIN_BUILD])
        self.assertEqual(builds("rdma/keepalives"), [plan.SAN_BUILD, plan.PLAIN_BUILD])
        self.assertEqual(builds("failover/protocol_model"), [])


if __name__ == "__main__":
    unittest.main()
