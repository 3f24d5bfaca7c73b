# SPDX-License-Identifier: GPL-2.0-or-later
"""The primary's mcd stands still between a checkpoint and the release of its output, until the standby
has gone on from that very checkpoint: the VM is not seen at the old place once more."""
import os
import signal

from mclab.proc import now, wait_for
from mclab.scenario import run


def stopped(pid):
    with open("/proc/%d/stat" % pid, encoding="latin1") as f:
        return f.read().rsplit(")", 1)[1].split()[0] == "T"


def protected(lab):
    return next((h for h in ("hostA", "hostB") if lab.status(h).get("state") == "protected"), None)


def main(report, cluster):
    lab, vm = cluster.up(dirty=2_000_000)
    active, standby = "hostA", "hostB"
    for step in ("RELEASE", "ACKED"):
        what = " (mcd stands still at %s)" % step
        client = lab.start_client(vm, patience=60, think=1)
        client.wait_acked(5)
        for _ in range(4):  # a busy machine may be too slow to come back with it: the VM is taken over
            lab.stop_mcd(active)
            lab.start_mcd(active, env={"MCD_FAILPOINT": step + ":20:stop"})
            if wait_for(lambda: protected(lab), 60, "protected") == active:
                break
            lab.stop_mcd(active)
            lab.start_mcd(active)
            active, standby = standby, active
            lab.wait_state(active, "vm1", "protected", 60)
        else:
            return report.skip("mcd was four times too slow to come back: the VM was taken over")
        h = lab.hosts[active]
        pid = h.inner(h.mcd)
        watch = lab.watch(vm)
        since = now()
        wait_for(lambda: stopped(pid), 60, "the failpoint %s is hit" % step)
        running = lab.events[standby].wait("RUNNING", 10, since)["time"]
        client.wait_answer_after(running)
        for p in (h.mcd.pid, pid):  # nsenter stopped with its child
            os.kill(p, signal.SIGCONT)
        lab.wait_state(standby, "vm1", "protected", 60)
        client.wait_acked(20)
        report.client(client.stop(), what)
        report.watch(watch.stop(), vm, 1, what)
        lab.stop_mcd(active)  # the failpoint goes with it
        lab.start_mcd(active)
        active, standby = standby, active
        lab.wait_state(active, "vm1", "protected", 60)


if __name__ == "__main__":
    run(main)
