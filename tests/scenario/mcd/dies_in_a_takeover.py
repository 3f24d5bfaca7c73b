# SPDX-License-Identifier: GPL-2.0-or-later
"""mcd dies in the middle of a takeover, at each of its steps: the mcd that follows finishes it.
Also where the standby has not asked for it: the primary's QEMU died, or the VM was moved."""
import os
import signal

from mclab.proc import wait_for
from mclab.scenario import run

CASES = [("the host is lost", step) for step in ("WON", "FINISH", "OPEN", "ACTIVATE")] + [
    ("QEMU dies", "WON"), ("the VM is moved", "WON")]


def strike(lab, vm, what, active):
    if what == "the host is lost":
        lab.poweroff(active)
    elif what == "QEMU dies":
        os.kill(lab.qemu(active, vm), signal.SIGKILL)
    else:
        lab.mcctl(active, "failover", vm.name)


def main(report, cluster):
    lab, vm = cluster.up(dirty=2_000_000)
    active, standby = "hostA", "hostB"
    for case, step in CASES:
        what = " (%s, and mcd at %s)" % (case, step)
        lab.stop_mcd(standby)
        lab.start_mcd(standby, env={"MCD_FAILPOINT": step})
        lab.wait_state(active, "vm1", "protected", 60)
        client = lab.start_client(vm, patience=60)
        client.wait_acked(20)
        watch = lab.watch(vm)
        client.wait_acked(5)
        strike(lab, vm, case, active)
        h = lab.hosts[standby]
        wait_for(lambda: h.mcd.poll() is not None, 10, "the failpoint %s is hit" % step)
        lab.start_mcd(standby)
        lab.wait_state(standby, "vm1", "unprotected", 15)
        client.wait_acked(20, timeout=30)
        report.client(client.stop(), what)
        report.watch(watch.stop(), vm, 1, what)
        if not lab.hosts[active].up:
            lab.boot(active)
        active, standby = standby, active
        lab.wait_state(active, "vm1", "protected", 60)


if __name__ == "__main__":
    run(main)
