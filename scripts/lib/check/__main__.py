# SPDX-License-Identifier: GPL-2.0-or-later
"""Started by scripts/check, which explains the options."""
import argparse
import os
import re
import shutil
import signal
import sys
import tempfile
import time

from . import plan
from .schedule import Schedule
from .tally import NOT_OK, OK, SKIP, Tally, first_failure

CORES = os.cpu_count() or 1
ERRORS = re.compile(r"error:|ERROR|FAILED|warning:")


def clock(seconds):
    return "%d:%02d" % divmod(round(seconds), 60)


class Check:
    def __init__(self, level, only, directory):
        self.level, self.only, self.directory = level, only, directory
        self.tally, self.again, self.done = Tally(), [], []
        self.began, self.last_tries = time.monotonic(), False
        most = int(os.environ.get("MCD_CHECK_JOBS") or 2 * CORES)
        self.schedule = Schedule(CORES, most, self.ended)

    def out(self, name):
        return os.path.join(self.directory, re.sub(r"\W", "-", name))

    def run(self):
        jobs = list(plan.programs(self.level, self.only, self.out))
        scenarios = list(plan.scenarios(self.level, self.only, self.out))
        if scenarios and os.geteuid() != 0:
            self.tally.skip("scenario tests: they make network namespaces, which needs root")
            scenarios = []
        jobs += scenarios
        if self.only == "." or not jobs or any(plan.SAN_BUILD in job.after for job in jobs):
            jobs += [plan.unit_tests(self.only, self.out, "alone"), plan.unit_tests(self.only, self.out, "beside", CORES)]
        builds = list(plan.builds(jobs, self.out))
        for job in jobs:
            if builds and not job.after:  # others wait for the builds, so these go first
                job.after = (builds[0].name,)
        self.schedule.run(builds + jobs)
        tries, self.last_tries = self.again, True
        for job in tries:
            job.alone = True
        if tries:
            print("== again, alone: %s" % ", ".join(job.name for job in tries), flush=True)
        self.schedule.run(tries)

    # --- what came of it ------------------------------------------------------

    def ended(self, job):
        if job.status is None:
            print("== %s: not run, for want of what it needs" % job.name, flush=True)
            return
        out = job.text()
        used = "" if job.used is None else ", %.2f cores" % (job.used / max(job.took, 0.1))
        print("== %s, %.0f s%s" % (job.name, job.took, used), flush=True)
        phase = "second tries" if self.last_tries else plan.phase(job)
        self.done.append((phase, job.took, job.used or 0, time.monotonic() - self.began))
        if job.name in plan.BUILD_JOBS:
            self.built(job, out)
        elif job.name.startswith(plan.UNIT):
            self.unit_tests(job, out)
        else:
            print(out, end="" if out.endswith("\n") else "\n", flush=True)
            self.scenario(job, out)

    def built(self, job, out):
        if not job.status:
            return
        self.tally.fail(job.name)
        lines = out.splitlines()
        told = [line for i, line in enumerate(lines) if any(ERRORS.search(x) for x in lines[max(0, i - 5):i + 1])]
        print("\n".join((told or lines)[-40:]), flush=True)

    def unit_tests(self, job, out):
        """Each counts by itself, and only those that failed are tried again."""
        lines, failed = out.splitlines(), []
        for i, line in enumerate(lines):
            if line.startswith(NOT_OK) and not self.last_tries and lines[i + 1:i + 2] != ["# safety"]:
                failed.append(line[len(NOT_OK):].split(" (")[0])
                self.tally.unsteady.append(line[len(NOT_OK):])
            elif line.startswith(OK):
                self.tally.ok()
            elif line.startswith(NOT_OK):
                self.tally.fail(line[len(NOT_OK):])
            elif line.startswith(SKIP):
                self.tally.skip(line[len(SKIP):])
            if not line.startswith((OK, SKIP)):
                print(line, flush=True)
        if job.status and not any(line.startswith(NOT_OK) for line in lines):
            self.tally.fail("the unit tests: ended with status %d" % job.status)
        if failed:
            self.again.append(plan.unit_tests("^(%s)$" % "|".join(map(re.escape, failed)), self.out, "all"))

    def scenario(self, job, out):
        if job.status not in (0, 77) and not self.last_tries and not job.steady and "\n# safety" not in "\n" + out:
            self.again.append(job)
            self.tally.unsteady.append("%s: %s" % (job.name, first_failure(out)))
        else:
            self.tally.lines(job.name, job.status, out)

    def times(self):
        """How long what took, for whoever watches that it does not grow."""
        print()
        total = time.monotonic() - self.began
        phases = {}
        for phase, took, used, end in self.done:
            first, last, before = phases.get(phase, (end, 0, 0))
            phases[phase] = min(first, end - took), max(last, end), before + used
        for name, (first, last, used) in sorted(phases.items(), key=lambda x: x[1]):
            print("time: %-18s %6s  (%s to %s)%s" % (name, clock(last - first), clock(first), clock(last),
                                                     ", %d CPU s" % used if used else ""))
        used = sum(row[2] for row in self.done)
        print("time: %-18s %6s%s" % ("all", clock(total), ", %d cores %.0f %% busy" % (
            CORES, 100 * used / total / CORES) if used else ""))


def interrupted(signum, _frame):
    raise SystemExit(128 + signum)


def main():
    p = argparse.ArgumentParser(prog="scripts/check")
    p.add_argument("--quick", action="store_true")
    p.add_argument("--nightly", action="store_true")
    p.add_argument("--only", default=".")
    args = p.parse_args()
    for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(s, interrupted)
    directory = tempfile.mkdtemp(prefix="mcd-check-")
    check = Check(plan.Level(args.quick, args.nightly), args.only, directory)
    try:
        check.run()
        check.times()
        return check.tally.finish()
    finally:
        for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(s, signal.SIG_IGN)
        check.schedule.stop()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
