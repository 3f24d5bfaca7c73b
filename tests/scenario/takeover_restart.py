# SPDX-License-Identifier: GPL-2.0-or-later
"""mcd dies in the middle of a takeover, at each of its steps: the mcd that follows finishes it."""
from mclab.proc import wait_for
from mclab.scenario import run

STEPS = ("WON", "FINISH", "OPEN", "ACTIVATE")


def main(report, cluster):
    lab, vm = cluster.up(dirty=2_000_000)
    active, standby = "hostA", "hostB"
    for step in STEPS:
        what = " (mcd dies at %s)" % step
        lab.stop_mcd(standby)
        lab.start_mcd(standby, env={"MCD_FAILPOINT": step})
        lab.wait_state(active, "vm1", "protected", 60)
        client = lab.start_client(vm, patience=60)
        client.wait_acked(20)
        watch = lab.watch(vm)
        client.wait_acked(5)
        lab.poweroff(active)
        h = lab.hosts[standby]
        wait_for(lambda: h.mcd.poll() is not None, 10, "the failpoint %s is hit" % step)
        lab.start_mcd(standby)
        lab.wait_state(standby, "vm1", "unprotected", 15)
        client.wait_acked(20, timeout=30)
        report.client(client.stop(), what)
        report.watch(watch.stop(), vm, 1, what)
        lab.boot(active)
        active, standby = standby, active
        lab.wait_state(active, "vm1", "protected", 60)


if __name__ == "__main__":
    run(main)
