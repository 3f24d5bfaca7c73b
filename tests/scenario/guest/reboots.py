# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest reboots: that is no failure.  The same QEMU goes on, protected as before; and when the
primary is lost while the guest is in its firmware or boots, the standby goes on booting it.

MCD_RUNS=5, MCD_SEED=number: how often, and the moments of an earlier run once more."""
import time

from mclab.proc import now
from mclab.scenario import random_moments, repetitions, run
from mclab.turns import turns


def reboot(report, lab, vm, host, state):
    what = " (%s)" % state
    qemu, booted = lab.qemu(host, vm), lab.boots(vm, host)
    generation = lab.status(host)["generation"]
    client = lab.start_client(vm)
    client.wait_acked(20)
    report.client(client.stop(), " before" + what)
    watch = lab.watch(vm)
    at = now()
    answer = lab.ask(vm, "REBOOT")
    report.check(answer.startswith("BYE"), "what it said last is heard" + what, answer)
    lab.events[host].wait("GUEST_RESET", 15, at)
    lab.wait_boot(vm, host, booted)
    client = lab.start_client(vm)
    client.wait_acked(20)
    report.client(client.stop(), " after" + what)
    status = lab.status(host)
    changed = [e["data"] for h in lab.hosts for e in [lab.events[h].find("STATE_CHANGED", at)] if e]
    report.check(status["state"] == state and status["generation"] == generation and not changed,
                 "it is %s all the time" % state, (status, changed))
    report.check(lab.qemu(host, vm) == qemu, "its QEMU is the same" + what)
    report.watch(watch.stop(), vm, 0, what)


def lost_while_booting(report, lab, vm, active, standby, wait, what):
    """The standby's copy may be anywhere between the last words and the new READY."""
    booted = lab.boots(vm, active)
    watch = lab.watch(vm)
    at = now()
    lab.ask(vm, "REBOOT")
    lab.events[active].wait("GUEST_RESET", 15, at)
    time.sleep(wait)
    early = lab.boots(vm, active) == booted
    off = lab.poweroff(active)
    running = lab.events[standby].wait("RUNNING", 15, off)
    client = lab.start_client(vm, patience=60)
    client.wait_acked(20, timeout=60)
    report.client(client.stop(), what)
    report.watch(watch.stop(), vm, 1, what)
    print("# %s: lost %.2f s after the reset%s, %.0f ms to running" % (
        what.strip(), wait, ", before it was up" if early else "", (running["time"] - off) / 1e6), flush=True)
    return early


def main(report, cluster):
    moments = random_moments()
    lab, vm = cluster.up(protect=False, dirty=2_000_000)
    reboot(report, lab, vm, "hostA", "unprotected")
    lab.protect(vm, "hostA", "hostB")
    reboot(report, lab, vm, "hostA", "protected")
    early = 0
    for active, standby, what in turns(report, lab, vm, repetitions(2, 5, 5)):
        # The firmware takes the first tenths of a second, the kernel the rest of two.
        wait = moments.uniform(0.0, 0.4) if active == "hostA" else moments.uniform(0.4, 1.2)
        early += lost_while_booting(report, lab, vm, active, standby, wait, what)
    report.check(early, "the primary was lost before the guest was up again, at least once")


if __name__ == "__main__":
    run(main)
