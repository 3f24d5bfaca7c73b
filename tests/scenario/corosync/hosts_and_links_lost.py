# SPDX-License-Identifier: GPL-2.0-or-later
"""Three hosts with real corosync, which has its own opinion of who is there, later than mcd's and
sooner gone than the operators': standby lost, link cut, primary isolated, primary frozen, primary lost."""
import sys
import time

from mclab import corosync
from mclab.proc import now, wait_for
from mclab.scenario import HOSTS, run

RUNS_IT = ("unprotected", "syncing", "protected")


class Row:
    """One fault, with a client and a watcher over it."""

    def __init__(self, report, lab, vm, primary, moves, what):
        self.report, self.lab, self.vm, self.moves, self.what = report, lab, vm, moves, what
        self.primary = primary
        self.standby = "hostB" if primary == "hostA" else "hostA"
        self.winner = self.standby if moves else primary

    def __enter__(self):
        self.watch = self.lab.watch(self.vm)
        self.client = self.lab.start_client(self.vm)
        self.client.wait_acked(10)
        return self

    def goes_on(self, since):
        running = self.lab.events[self.winner].wait("RUNNING", 15, since)
        self.client.wait_answer_after(running["time"])
        self.client.wait_acked(10)
        print("# %s: %.0f ms to running" % (self.what.strip(), (running["time"] - since) / 1e6), flush=True)

    def quorate(self, cs):
        cs.wait_quorate(3)
        for h in HOSTS:
            wait_for(lambda: self.lab.mcctl(h, "status")["cluster"].startswith("corosync (quorate"), 15,
                     "%s knows that it is quorate" % h)

    def __exit__(self, kind, *_):
        if kind:
            return
        loser = self.standby if self.winner == self.primary else self.primary
        status = self.lab.wait_state(self.winner, "vm1", "protected", 60)
        self.report.check(status["peer"] == loser, "it is protected again by the other host" + self.what, status)
        self.client.wait_acked(10)
        self.report.client(self.client.stop(), self.what)
        self.report.watch(self.watch.stop(), self.vm, self.moves, self.what)


def boot(lab, cs, host):
    lab.hosts[host].gone()
    lab.hosts[host].boot()
    cs.start(host)
    lab.start_mcd(host)


def standby_lost(report, lab, cs, vm):
    with Row(report, lab, vm, "hostA", 0, " (standby lost)") as row:
        off = lab.poweroff("hostB")
        row.goes_on(off)
        boot(lab, cs, "hostB")
        row.quorate(cs)


def link_cut(report, lab, cs, vm):
    """A full mesh with one link less: corosync has to leave one of the two out, mcd has its own view."""
    with Row(report, lab, vm, "hostA", 0, " (link cut)") as row:
        cut = now()
        lab.switch.cut_pair("hostA", "hostB")
        row.goes_on(cut)
        lab.events["hostB"].wait("DISCARDED", 15, cut)
        lab.switch.heal_pairs()
        row.quorate(cs)


def isolated(report, lab, cs, vm):
    what = " (primary isolated)"
    with Row(report, lab, vm, "hostA", 1, what) as row:
        cut = now()
        lab.switch.isolate("hostA")
        row.goes_on(cut)
        lab.events["hostA"].wait("QUORUM_LOST", 15, cut)
        status = lab.status("hostA")
        report.check(status["state"] not in RUNS_IT, "an isolated primary without quorum does not run" + what, status)
        back = now()
        lab.switch.rejoin("hostA")
        lab.events["hostA"].wait("DISCARDED", 20, back)
        row.quorate(cs)


def frozen(report, lab, cs, vm):
    if not lab.hosts["hostB"].freezer.dir:
        report.skip("no cgroup freezer on this machine: a frozen host cannot be tried")
        return "hostB"
    with Row(report, lab, vm, "hostB", 1, " (primary frozen)") as row:
        at = now()
        lab.hosts["hostB"].freezer.freeze()
        try:
            row.goes_on(at)
            time.sleep(max(0, 5 - (now() - at) / 1e9))
        finally:
            thawed = now()
            lab.hosts["hostB"].freezer.thaw()
        lab.events["hostB"].wait("DISCARDED", 20, thawed)
        report.check(not lab.events["hostB"].find("RUNNING", at), "it wakes up and never runs (primary frozen)")
        row.quorate(cs)
    return "hostA"


def primary_lost(report, lab, cs, vm, primary):
    with Row(report, lab, vm, primary, 1, " (primary lost)") as row:
        off = lab.poweroff(primary)
        row.goes_on(off)
        boot(lab, cs, primary)
        row.quorate(cs)


def main(report, cluster):
    if not corosync.available():
        print(corosync.MISSING)
        sys.exit(77)
    lab, cs, vm = corosync.cluster_with(cluster, dirty=1_000_000)
    for row in (standby_lost, link_cut, isolated):
        row(report, lab, cs, vm)
        if report.failed:
            return
    primary_lost(report, lab, cs, vm, frozen(report, lab, cs, vm))


if __name__ == "__main__":
    run(main)
