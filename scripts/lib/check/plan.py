# SPDX-License-Identifier: GPL-2.0-or-later
"""What there is to run, as jobs: builds, linters, unit tests, mutants, scenarios."""
import glob
import os
import re
import sys

from .schedule import Job

SCENARIOS = "tests/scenario"
WEIGHTS = SCENARIOS + "/weights"
SAN, PLAIN = "build-san", "build"
SAN_BUILD, PLAIN_BUILD = BUILD_JOBS = "build with sanitizers", "plain build"
SANITIZERS = ("-Db_sanitize=address,undefined", "-Db_lundef=false")
UNIT = "unit tests"
# Programs that print "ok - " lines as scenarios do; none of them depends on the time.
PROGRAMS = (
    # name, command, the build that it reads, seconds, also with --quick
    ("lint", ("scripts/lint", SAN), (SAN_BUILD,), 60, True),
    ("lint finds what is planted", ("tests/lint/run",), (), 30, True),
    ("mutants", ("tests/mutants/run",), (), 300, False),
)
MARKS = {"plain", "both builds", "alone", "beside others", "computes", "quick", "nightly"}


class Level:
    def __init__(self, quick=False, nightly=False):
        self.quick, self.nightly = quick, nightly
        self.limit = 8 * 3600 if nightly else 1800

    def env(self):
        return {"MCD_QUICK": "1" if self.quick else "", "MCD_NIGHTLY": "1" if self.nightly else ""}


def marks(path):
    """The words of a scenario's line "# check: plain, beside others"; tests/README.md explains them."""
    with open(path, encoding="utf-8") as f:
        found = re.search(r"^# check: (.*)$", f.read(2000), re.M)
    words = set(found[1].split(", ")) if found else set()
    if words - MARKS:
        raise ValueError("%s: \"# check: %s\" is not understood; it takes %s" % (
            path, ", ".join(sorted(words - MARKS)), ", ".join(sorted(MARKS))))
    return words


def weights():
    """{scenario: (seconds, cores)}, as they were measured."""
    with open(WEIGHTS, encoding="ascii") as f:
        rows = (line.split() for line in f if line.strip() and not line.startswith("#"))
        return {name: (float(seconds), float(cores)) for name, seconds, cores in rows}


def scenarios(level, only, out):
    known = weights()
    for path in sorted(glob.glob(SCENARIOS + "/*/*.py")):
        name, words = path[len(SCENARIOS) + 1:-len(".py")], marks(path)
        if not re.search(only, name) or "nightly" in words and not level.nightly or level.quick and "quick" not in words:
            continue
        build = PLAIN if "plain" in words else SAN
        after = BUILD_JOBS if "both builds" in words else (PLAIN_BUILD if "plain" in words else SAN_BUILD,)
        seconds, cores = known.get(name, (30, 0.4))
        yield Job(name, [sys.executable, "-B", path], out(name), seconds, cores,
                  after=() if "computes" in words else after,
                  alone="alone" in words or "plain" in words and "beside others" not in words,
                  background="computes" in words, steady="computes" in words, limit=level.limit,
                  env=dict(level.env(), MCD_BUILD=build, MCD_PLAIN_BUILD=PLAIN))


def programs(level, only, out):
    """Those that are there."""
    for name, command, after, seconds, quick in PROGRAMS:
        if re.search(only, name) and os.access(command[0], os.X_OK) and (quick or not level.quick):
            yield Job(name, list(command), out(name), seconds, after=after, background=True, steady=True, limit=level.limit,
                      env=level.env())


def unit_tests(only, out, which, processes=1):
    name = {"alone": UNIT + " that boot a kernel"}.get(which, UNIT)
    return Job(name, [sys.executable, "-B", "-m", "check.unit", SAN, str(processes), which, only], out(name), seconds=1000,
               cores=0.55 * processes, after=(SAN_BUILD,))


def build(directory, *options):
    """Anew only where there is nothing."""
    script = '[ -e "$0/build.ninja" ] || "$@" || exit; exec ninja -C "$0"'
    return ["sh", "-c", script, directory, "meson", "setup", directory, ".", "--werror", *options]


def builds(jobs, out):
    """Those that these jobs need.  The plain one is for later, and made in the gaps."""
    needed = {name for job in jobs for name in job.after}
    first = (SAN_BUILD,) if SAN_BUILD in needed else ()
    if first:
        yield Job(SAN_BUILD, build(SAN, *SANITIZERS), out(SAN_BUILD), seconds=2000)
    if PLAIN_BUILD in needed:
        yield Job(PLAIN_BUILD, build(PLAIN), out(PLAIN_BUILD), seconds=2000, background=True, after=first)


def phase(job):
    """The heading under which its time is told."""
    if job.name.startswith((*BUILD_JOBS, UNIT)) or job.background:
        return job.name
    return "scenarios, alone" if job.alone else "scenarios"
