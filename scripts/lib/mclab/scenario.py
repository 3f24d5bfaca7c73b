# SPDX-License-Identifier: GPL-2.0-or-later
"""What every scenario test needs: a cluster with a guest, and lines that scripts/check counts.

    def main(report, cluster):
        lab, vm = cluster.up(dirty=5_000_000)
        ...
        report.check(summary["lost"] == 0, "no acknowledged request is lost", summary)

    if __name__ == "__main__":
        run(main)
"""
import json
import os
import random
import subprocess
import sys
import time
import traceback

from .control import CommandError
from .lab import Lab
from .proc import LabError

HOSTS = ("hostA", "hostB", "hostC")
TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), "../../.."))
QUICK = bool(os.environ.get("MCD_QUICK"))      # scripts/check --quick
NIGHTLY = bool(os.environ.get("MCD_NIGHTLY"))  # scripts/check --nightly


def repetitions(quick, usual, nightly):
    """How often to do it: MCD_RUNS says so, or scripts/check by its --quick and --nightly."""
    return int(os.environ.get("MCD_RUNS") or (quick if QUICK else nightly if NIGHTLY else usual))


def random_moments():
    """MCD_SEED=number repeats those of an earlier run, which printed it."""
    seed = int(os.environ.get("MCD_SEED") or time.time_ns() & 0xffffffff)
    print("# MCD_SEED=%d" % seed, flush=True)
    return random.Random(seed)


class Report:
    def __init__(self) -> None:
        self.failed = 0

    def check(self, good: object, promise: str, detail: object = "", safety: bool = False) -> bool:
        """safety: however slow the machine, this must hold; scripts/check does not try such a failure again."""
        if good:
            print("ok - %s" % promise, flush=True)
        else:
            self.failed += 1
            print("not ok - %s%s" % (promise, ": %s" % (detail,) if detail != "" else ""), flush=True)
            if safety:
                print("# safety", flush=True)
        return bool(good)

    def refused(self, promise, action, cls=None, limit=6.0):
        """The action must be refused with an error of that class (or one of them), in time: mcd's own patience is
        1.5 to 2 s, the rest is what a busy machine may take to start mcctl."""
        start = time.monotonic()
        try:
            result = action()
        except CommandError as e:
            took = time.monotonic() - start
            wanted = (cls,) if isinstance(cls, str) else cls
            good = took <= limit and (not wanted or e.cls in wanted) and len(e.message) > 10
            return self.check(good, promise, "%s after %.2f s, wanted %s" % (e, took, cls))
        except LabError as e:
            return self.check(False, promise, e)
        return self.check(False, promise, "it was accepted: %s" % result)

    def client(self, summary, what=""):
        """Nothing lost, nothing wrong, never disconnected, the guest's memory as it must be."""
        good = summary["complete"] and summary["acked"] and not summary["lost"] and not summary["bad"] \
            and not summary["reconnects"] and summary["check"].startswith("CHECK OK")
        return self.check(good, "the client keeps its connection and every acknowledged request" + what, summary,
                          summary["lost"] or summary["bad"])

    def watch(self, seen, vm, moves, what=""):
        mac = next(m for m in seen["macs"] if m["mac"] == vm.mac)
        return self.check(not seen["missed"] and not seen["visible_twice"] and len(mac["moves"]) == moves,
                          "the VM is visible at one host at a time" + what,
                          {"missed": seen["missed"], "ports": mac["ports"], "moves": mac["moves"]},
                          seen["visible_twice"])

    def skip(self, reason):
        print("skip - %s" % reason, flush=True)

    def last_line(self, promise, argv, timeout):
        """Runs a program that succeeds and ends with a line of JSON: that, or None after a failed check."""
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as p:
            try:
                out, err = p.communicate(timeout=timeout)
            except BaseException:
                p.terminate()  # it removes its lab
                raise
        if not self.check(p.returncode == 0, promise, (out + err)[-2500:]):
            return None
        print("# " + out.splitlines()[-1], flush=True)
        return json.loads(out.splitlines()[-1])


class Cluster:
    """Three hosts, their mcds and vm1; made by up(), removed with the scenario."""

    def __init__(self, build):
        self.build, self.lab = build, None

    def up(self, protect=True, lab_options=None, hosts=HOSTS, prepare=None, mcd_env=None, **vm_options):
        """prepare(lab) is called when the hosts have booted, before their mcds start."""
        self.lab = Lab(self.build, log_level="debug", **(lab_options or {}))
        self.lab.__enter__()
        self.lab.add_hosts(*hosts)
        if prepare:
            prepare(self.lab)
        self.lab.start_mcd(env=mcd_env)
        vm = self.lab.add_vm("vm1", **vm_options)
        self.lab.start_vm(vm, "hostA")
        if protect:
            self.lab.protect(vm, "hostA", "hostB")
        return self.lab, vm

    def down(self, report, error):
        """Ends the mcds in order, so that the leak check runs, and reads what the sanitizers wrote."""
        if self.lab is None:
            return
        try:
            if error is None:
                for name, host in self.lab.hosts.items():
                    if host.up:
                        self.lab.stop_mcd(name)
                found = self.lab.sanitizer_reports()
                report.check(not found, "the sanitizers have nothing to say", found, safety=True)
        finally:
            failed = RuntimeError if error is not None or report.failed else None
            self.lab.__exit__(failed, error, None)


def run(main):
    build = os.environ.get("MCD_BUILD") or os.path.join(os.path.dirname(__file__), "../../../build")
    if os.geteuid() != 0:
        print("needs root: it makes network namespaces")
        sys.exit(77)
    report = Report()
    cluster = Cluster(build)
    error: BaseException | None = None
    try:
        main(report, cluster)
    except KeyboardInterrupt:
        error = KeyboardInterrupt()
        raise
    except Exception as e:  # whatever it is, it is a failed test, with its place
        error = e
        where = traceback.extract_tb(e.__traceback__)
        mine = [f for f in where if "/tests/scenario/" in f.filename] or where
        report.check(False, "the scenario runs to its end",
                     "%s (line %s): %s" % (type(e).__name__, mine[-1].lineno, e))
    finally:
        cluster.down(report, error)
    sys.exit(1 if report.failed else 0)
