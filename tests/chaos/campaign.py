# SPDX-License-Identifier: GPL-2.0-or-later
"""The campaign: round after round of faults on a VM that is protected again in between."""
import argparse
import json
import os
import sys
import time

import checker
import faults
import jobs
import plan as plans
from mclab import Lab, LabError
from mclab.control import CommandError
from mclab.proc import now, wait_for
from mclab.vm import Disk, DiskLog

KINDS = ("lost", "diverged", "late", "not_reprotected")
REPROTECT = 60    # seconds from the last heal to "protected": the longest pause between two tries is 32 s
LAB_ROUNDS = 50   # rounds in one lab: keeps its logs readable
SETTLED = 0.7     # seconds that "protected" must last to be believed: mcd may not have noticed the fault yet
VERIFY_EVERY = 5  # rounds between two comparisons of both sides
VOTES_BACK = 1.0  # seconds until hosts that could not reach each other try again
HOSTS = ("hostA", "hostB")


class Void(Exception):
    """The round says nothing: the lab, not mcd, got in the way."""


class Campaign:
    def __init__(self, args):
        self.args = args
        self.totals = dict.fromkeys(KINDS, 0)
        self.rounds = self.void = self.other = 0
        self.lab = self.vm = self.bound = self.stall = None
        self.in_lab = 0
        self.next_request = None
        self.by_fault = {}

    # --- the lab -----------------------------------------------------------

    def open_lab(self):
        self.lab = Lab(self.args.build, keep=self.args.keep, log_level="debug")
        self.lab.__enter__()
        self.lab.add_hosts(*HOSTS, "hostC")
        self.lab.start_mcd()
        self.vm = self.lab.add_vm("vm1", dirty=2_000_000, disk=Disk() if self.args.disk else None)
        self.lab.start_vm(self.vm, "hostA")
        self.lab.protect(self.vm, "hostA", "hostB")
        self.in_lab, self.next_request = 0, 1
        self.bound, self.stall = checker.bounds(self.lab.request("hostA", "check")["checks"])
        if self.bound is None or self.stall is None:
            raise LabError("mcctl check does not state the bounds of a takeover and a stall")

    def close_lab(self, failed=False):
        lab, self.lab = self.lab, None
        if lab is None:
            return
        try:
            if not failed:
                for name, host in lab.hosts.items():
                    if host.up and host.mcd is not None:
                        lab.stop_mcd(name)
        except LabError as e:
            self.violation(0, None, [("other", "mcd does not end in order: %s" % e)], lab)
            failed = True
        found = lab.sanitizer_reports()
        if found:
            self.violation(0, None, [("other", "sanitizer: %s" % f) for f in found], lab)
            failed = True
        lab.keep = lab.keep or failed
        lab.__exit__(None, None, None)

    # --- one round -----------------------------------------------------------

    def protected(self):
        """The host that runs the VM protected by the other, or None."""
        for host in HOSTS:
            try:
                v = self.lab.status(host, self.vm.name)
            except LabError:
                continue
            if v.get("state") == "protected" and v.get("role") == "primary":
                return host
        return None

    def settle(self, since):
        """Until the VM is protected, and stays so: the host that runs it, and the seconds from
        `since` (the last heal) until it was."""
        host, first = None, 0

        def settled():
            nonlocal host, first
            at = self.protected()
            if at is None or at != host:
                host, first = at, now()
            return host if host and now() - first > SETTLED * 1e9 else None
        wait_for(settled, REPROTECT, self.describe, 0.05)
        return host, max(0, first - since) / 1e9

    def cluster(self, primary):
        return faults.Cluster(self.lab, self.vm, primary, HOSTS[1 - HOSTS.index(primary)])

    def describe(self):
        """What each host says of the VM, for a message."""
        said = []
        for host in HOSTS:
            try:
                v = self.lab.mcctl(host, "status", timeout=5).get("vms", [{}])[0]
                said.append("%s: %s %s (%s)" % (host, v.get("role"), v.get("state"), v.get("reason")))
            except (LabError, IndexError) as e:
                said.append("%s: %s" % (host, e))
        return "; ".join(said)

    def run_timeline(self, plan, c):
        """Strikes and heals; when the first strike and the last heal were."""
        started, done = now(), set()
        steps = plan.timeline()
        try:
            for at, fault, what in steps:
                time.sleep(max(0, at - (now() - started) / 1e9))
                if what == "strike":
                    fault.strike(c)
                    if isinstance(fault, faults.Failpoint):
                        time.sleep(fault.lasts)
                else:
                    done.add(fault)
                    fault.heal(c)
        except LabError as e:
            for _, fault, what in steps:
                if what == "heal" and fault not in done:
                    try:
                        fault.heal(c)
                    except (LabError, OSError):
                        pass
            raise Void("%s: %s" % (plan, e)) from None
        return started, now()

    def allowed_outage(self, plan, struck, healed):
        """Seconds: while a majority stays, it is the stated bound and what the fault takes by itself;
        without one, or with two faults, everything may stop until the last of them is healed."""
        if plan.combined or plan.faults[0].blocks:
            return (healed - struck) / 1e9 + 2 * self.bound + VOTES_BACK + \
                (self.stall if any(f.stalls for f in plan.faults) else 0)
        f = plan.faults[0]
        return f.outage * self.bound + (self.stall if f.stalls else 0) + (f.own if f.whole else min(f.own, self.bound))

    def round(self, number):
        plan = plans.Plan(self.args.seed, number, self.args.only)
        primary = wait_for(self.protected, REPROTECT, lambda: "protected before the round: " + self.describe(), 0.05)
        c, ran_it = self.cluster(primary), primary
        frames_log = os.path.join(self.lab.dir, "frames-%d.txt" % number)
        watch = self.lab.watch(self.vm, log=frames_log)
        client = self.lab.start_client(self.vm, patience=45, think=2)
        bad, moves, longest, back, summary, began = [], [], 0.0, None, None, now()
        struck = healed = now()
        try:
            client.wait_acked(5)
            if isinstance(plan.faults[0], faults.Failpoint):
                f = plan.faults[0]
                f.arm(c)
                if f.trigger:  # the takeover that it is to interrupt needs a standby
                    self.lab.wait_mcd(c.host[f.part])
                    settled_at = wait_for(self.protected, REPROTECT, lambda: "armed: " + self.describe(), 0.05)
                    if settled_at != primary:
                        raise Void("the VM moved while the failpoint was armed")
            time.sleep(plan.wait)
            if not isinstance(plan.faults[0], faults.Failpoint) and self.protected() != primary:
                raise Void("not protected any more at the moment of the fault: " + self.describe())
            struck, healed = self.run_timeline(plan, c)
            try:
                primary, back = self.settle(healed)
            except LabError as e:
                bad.append(("not_reprotected", "not protected %d s after the last heal: %s" % (REPROTECT, e)))
            try:
                client.wait_acked(5, 45)
            except LabError:
                pass  # the summary says so
        finally:
            try:
                summary = client.stop()
            finally:
                seen = watch.stop()
                self.lab._clients.remove(client)
                self.lab._clients.remove(watch)
                client.close()
        requests = client.requests()
        if back is not None:
            bad += self.at_rest(number, primary, requests)
        bad += checker.client_violations(summary, requests, self.next_request)
        if requests:
            self.next_request = requests[-1]["n"] + 1
        if seen["missed"] and not bad:  # what the client and the disk say is true all the same
            raise Void("the watch at the switch missed %d frames" % seen["missed"])
        frame_bad, moves = checker.frame_violations(
            checker.read_frames(frames_log, self.vm.mac), ran_it, *self.told(began))
        if not seen["missed"]:
            bad += frame_bad
        outage = self.allowed_outage(plan, struck, healed)
        allowed = checker.silence_allowed(outage)
        gaps = checker.silences(requests)
        longest = gaps[0][0] if gaps else 0.0
        for gap, since, _ in gaps:
            if gap > allowed:
                bad.append(("late", "no answer for %.2f s from %.2f s after the fault; %.2f s are allowed" % (
                    gap, (since - struck) / 1e9, allowed)))
        # A failpoint is reached only while the VM is protected.
        early = self.dropped_before(struck) if any(
            f.costs and not isinstance(f, faults.Failpoint) for f in plan.faults) else None
        if bad and early and not frame_bad:  # nothing excuses a VM that is seen at two hosts
            raise Void("mcd had given the protection up by itself before the fault: %s" % early)
        reached = getattr(plan.faults[0], "reached", None)
        print("round %d: %s: silence %.2f s of %.2f allowed, protected again after %s, %d requests, %s%s  [%.1f s]" % (
            number, plan, longest, allowed, "%.1f s" % back if back is not None else "-", len(requests),
            "moved to " + moves[-1][2] if moves else "stayed", "" if reached in (None, True) else ", NOT REACHED",
            (now() - began) / 1e9), flush=True)
        figures = self.by_fault.setdefault("+".join(f.name.split("-by-")[0] for f in plan.faults)
                                           if not plan.combined else "combination", [0, 0.0, 0.0])
        figures[0] += 1
        figures[1] = max(figures[1], longest)
        figures[2] = max(figures[2], back or 0)
        if bad:
            self.violation(number, plan, bad, self.lab, struck)
            return False
        if not self.args.keep:
            os.unlink(frames_log)
            os.unlink(client.log)
        return True

    def told(self, since):
        """Of this round: when a host was the standby anew, and when one ran the VM alone.  From the files, which
        have also what an mcd said that has died since."""
        paths = [os.path.join(self.lab.dir, "events-%s.json" % host) for host in HOSTS]
        return checker.named_and_running([e for e in checker.read_events(paths) if e["time"] >= since])

    def at_rest(self, number, primary, requests):
        """With the client gone: what is on the disk, and whether both sides are equal."""
        bad = []
        if self.vm.disk:
            log = DiskLog(self.vm.disk.used(self.lab.hosts[primary]), self.lab.dir)
            missing = sum(r["n"] not in log.chains for r in requests)
            if not log.clean:
                bad.append(("lost", "the file system on %s is damaged: %s" % (primary, log.report[-200:])))
            if missing:
                bad.append(("lost", "%d answered requests are not on the disk of %s" % (missing, primary)))
        if number % VERIFY_EVERY == 0:
            try:
                result = self.lab.request(primary, "verify", vm=self.vm.name)
                if result["different"]:
                    bad.append(("lost", "the two sides differ: %s" % result["differences"][:4]))
            except (LabError, CommandError) as e:
                if self.protected() == primary:
                    bad.append(("other", "mcctl verify: %s" % e))
        return bad

    def dropped_before(self, moment):
        """A change of the VM's state that mcd announced in the second before the fault, while the
        campaign believed it protected: then a fault that destroys a copy is one too many."""
        for host in HOSTS:
            e = self.lab.events.get(host)
            for event in list(e.all) if e else []:
                if event["event"] in ("LINK_LOST", "PROTECTION_ENDED", "SUSPECTED") and moment - 1e9 < event.get("time", 0) < moment:
                    return "%s on %s" % (event["event"], host)
        return None

    def violation(self, number, plan, bad, lab, struck=None):
        for kind, text in bad:
            if kind in self.totals:
                self.totals[kind] += 1
            else:
                self.other += 1
            print("VIOLATION (%s) in round %d, seed %d: %s" % (kind, number, self.args.seed, text), flush=True)
        if plan:
            print("  the round: %s" % plan)
            print("  repeat it: tests/chaos/run --seed %d --first %d --rounds 1%s%s" % (
                self.args.seed, number, " --only " + self.args.only if self.args.only else "",
                " --disk" if self.args.disk else ""))
        print("  its logs: %s%s" % (lab.dir, ", the fault at %d ns" % struck if struck else ""), flush=True)

    # --- all of them -----------------------------------------------------------

    def run(self):
        args = self.args
        print("seed %d, rounds %d to %d; repeat: tests/chaos/run --seed %d --first %d --rounds %d" % (
            args.seed, args.first, args.first + args.rounds - 1, args.seed, args.first, args.rounds), flush=True)
        try:
            for number in range(args.first, args.first + args.rounds):
                good, told = False, False
                try:
                    if self.lab is None:
                        self.open_lab()
                        if number == args.first:
                            self.announce()
                    good = self.round(number)
                    told = not good
                    self.rounds += 1
                except Void as e:
                    self.void += 1
                    print("round %d: void: %s" % (number, e), flush=True)
                except LabError as e:
                    self.rounds += 1
                    self.violation(number, plans.Plan(args.seed, number, args.only),
                                   [("not_reprotected", "%s" % e)], self.lab)
                    told = True
                self.in_lab += 1
                if not good or self.in_lab >= LAB_ROUNDS:
                    self.close_lab(failed=told)
        finally:
            self.close_lab()
        return self.conclude()

    def announce(self):
        print("mcctl check states %.0f ms from power-off to running (W); a single fault may cost W and the time it "
              "takes by itself (mcd or failpoint: 2 W);" % (self.bound * 1000))
        print("where only acknowledgements stay out, %.0f ms more;" % (self.stall * 1000))
        print("two faults, or no majority: from the first to the last heal + 2 W + %.0f s; the client sees at most twice that + %.1f s "
              "(TCP's retransmission); protection is back within %d s." % (VOTES_BACK, checker.RETRANSMIT, REPROTECT), flush=True)

    def conclude(self):
        print("fault                         rounds  longest silence  protected after")
        for name, (n, silence, back) in sorted(self.by_fault.items()):
            print("%-30s %5d %12.2f s %13.1f s" % (name, n, silence, back))
        if self.void:
            print("%d rounds void" % self.void)
        print(json.dumps(dict(rounds=self.rounds, **self.totals)), flush=True)
        return 1 if any(self.totals.values()) or self.other or not self.rounds else 0


def main():
    p = argparse.ArgumentParser(prog="tests/chaos/run", description="Random faults on a protected VM, from a seed.")
    p.add_argument("--build", required=True)
    p.add_argument("--rounds", type=int, default=25)
    p.add_argument("--seed", type=int, default=time.time_ns() & 0xffffffff)
    p.add_argument("--first", type=int, default=1, help="the number of the first round (1)")
    p.add_argument("--disk", action="store_true", help="the VM has a disk, on which it keeps its requests")
    p.add_argument("--only", metavar="FAULT", help="only this fault; --list shows them")
    p.add_argument("--list", action="store_true", help="print the rounds without running them")
    p.add_argument("--keep", action="store_true", help="keep the logs of good rounds too")
    p.add_argument("--jobs", type=int, default=1, metavar="N", help="in N clusters at once, each with a share of the rounds")
    args = p.parse_args()
    if args.jobs < 1:
        p.error("--jobs takes a number from 1 on")
    if args.only and args.only not in plans.names():
        p.error("--only takes one of: " + " ".join(plans.names()))
    if args.list:
        for n in range(args.first, args.first + args.rounds):
            print("round %d: %s" % (n, plans.Plan(args.seed, n, args.only)))
        return 0
    if args.jobs > 1:
        same = ["--build", args.build, "--seed", str(args.seed)] + (["--only", args.only] if args.only else []) + \
            ["--" + word for word in ("disk", "keep") if getattr(args, word)]
        return jobs.run(os.path.abspath(__file__), same, args.first, args.rounds, args.jobs)
    try:
        return Campaign(args).run()
    except LabError as e:
        print("chaos: %s" % e, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
