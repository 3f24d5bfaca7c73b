# SPDX-License-Identifier: GPL-2.0-or-later
# check: quick
"""QEMU dies, its host lives.  On the primary: the standby goes on at once, nobody waits for a
time-out.  The waiting one on the standby: another takes its place, memory is not copied again.
Unprotected: the VM is failed, with an alarm, and can be started."""
import os
import signal
import time

from mclab.proc import now, wait_for
from mclab.scenario import random_moments, repetitions, run
from mclab.turns import turns


def primary(report, lab, vm, active, standby, wait, what):
    watch = lab.watch(vm)
    client = lab.start_client(vm)
    client.wait_acked(10)
    time.sleep(wait)
    at = now()
    os.kill(lab.qemu(active, vm), signal.SIGKILL)
    running = lab.events[standby].wait("RUNNING", 15, at)
    took = (running["time"] - at) / 1e6
    silent = [e for h in (active, standby) for e in [lab.events[h].find("KEEPALIVE_LOST", at)] if e]
    lab.events[active].wait("VOTE_WON", 2, at, owner=standby)
    report.check(not silent, "ownership is handed over, not fought for" + what, silent)
    # head_start, the time-out of a primary that is only silent, is 600 ms: twice that is no hand-over.
    report.check(took < 1200, "the standby runs at once" + what, "%.0f ms" % took)
    status = lab.wait_state(standby, vm.name, "protected", 60)
    report.check(status["peer"] == active, "and is protected by the host whose QEMU died" + what, status)
    client.wait_acked(10)
    summary = client.stop()
    report.client(summary, what)
    report.watch(watch.stop(), vm, 1, what)
    print("# %s: %.0f ms to running, longest silence %.0f ms" % (what.strip(), took, summary["stall_ms"]), flush=True)


def waiting(report, lab, vm, active, standby):
    watch = lab.watch(vm)
    client = lab.start_client(vm)
    client.wait_acked(10)
    at, old = now(), lab.qemu(standby, vm)
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: lab.qemu(standby, vm) not in (None, old), 15, "another QEMU waits")
    epoch = lab.status(active, vm.name)["epoch"]
    wait_for(lambda: lab.status(active, vm.name)["epoch"] > epoch + 5, 15, "epochs go on")
    client.wait_acked(10)
    changed = lab.events[active].find("STATE_CHANGED", at)
    report.check(changed is None and lab.events[standby].find("STATE_CHANGED", at) is None,
                 "a waiting QEMU that dies is replaced: still protected, no memory is copied again", changed)
    off = lab.poweroff(active)
    running = lab.events[standby].wait("RUNNING", 15, off)
    client.wait_answer_after(running["time"])
    client.wait_acked(10)
    report.client(client.stop(), " (takeover by the second QEMU)")
    report.watch(watch.stop(), vm, 1, " (takeover by the second QEMU)")


def unprotected(report, lab, vm, host):
    os.kill(lab.qemu(host, vm), signal.SIGKILL)
    status = lab.wait_state(host, vm.name, "failed", 5)
    report.check("start" in status.get("alarm", ""), "without a standby it is failed, and the alarm says what to do", status)
    lab.start_vm(vm, host)
    wait_for(lambda: lab.status(host, vm.name).get("state") == "unprotected", 10, "it runs")
    client = lab.start_client(vm)
    client.wait_acked(10)
    report.client(client.stop(), " (started again)")
    report.check(not lab.status(host, vm.name).get("alarm"), "and the alarm is over")


def main(report, cluster):
    moments = random_moments()
    lab, vm = cluster.up(dirty=5_000_000)
    for active, standby, what in turns(report, lab, vm, repetitions(2, 4, 4)):
        primary(report, lab, vm, active, standby, moments.uniform(0.05, 0.4), what)
    if report.failed:
        return
    active, standby = standby, active
    waiting(report, lab, vm, active, standby)
    unprotected(report, lab, vm, standby)


if __name__ == "__main__":
    run(main)
