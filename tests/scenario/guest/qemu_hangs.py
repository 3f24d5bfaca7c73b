# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU hangs, its host lives: for a moment, and nothing happens; for good, and the standby goes on,
with a short delay and with a long one.  The healthy copy is not the one that is given up."""
import os
import signal
import time

from mclab.proc import now, wait_for
from mclab.scenario import run

GOES_ON = 9  # seconds: a command has 5, the second look 1.5, then the vote


def for_a_moment(report, lab, vm, active, standby):
    client = lab.start_client(vm)
    client.wait_acked(10)
    at, qemu = now(), lab.qemu(active, vm)
    os.kill(qemu, signal.SIGSTOP)
    time.sleep(1.5)
    os.kill(qemu, signal.SIGCONT)
    client.wait_acked(20)
    changed = [e for h in (active, standby) for e in [lab.events[h].find("PROTECTION_ENDED", at)] if e]
    report.check(not changed and lab.qemu(active, vm) == qemu, "a QEMU that hangs for 1.5 s is waited for", changed)
    report.client(client.stop(), " (for a moment)")


def for_good(report, lab, vm, active, standby, what):
    watch = lab.watch(vm)
    client = lab.start_client(vm)
    client.wait_acked(5)
    at, hung = now(), lab.qemu(active, vm)
    os.kill(hung, signal.SIGSTOP)
    ended = lab.events[active].wait("PROTECTION_ENDED", 15, at)
    report.check(ended["data"]["why"] == "guest-hung" and "SIGSTOP" in ended["data"]["reason"],
                 "it is said that QEMU hangs, and why" + what, ended)
    running = lab.events[standby].wait("RUNNING", 15, at)
    took = (running["time"] - at) / 1e6
    report.check(took < GOES_ON * 1000, "the standby goes on" + what, "%.0f ms" % took)
    wait_for(lambda: lab.qemu(active, vm) != hung, 15, "the hung QEMU is ended")
    status = lab.wait_state(standby, vm.name, "protected", 60)
    report.check(status["peer"] == active, "and is protected by the host whose QEMU hung" + what, status)
    client.wait_answer_after(running["time"])
    client.wait_acked(5)
    summary = client.stop()
    report.client(summary, what)
    report.watch(watch.stop(), vm, 1, what)
    print("# %s: %.0f ms to running, longest silence %.0f ms" % (what.strip(), took, summary["stall_ms"]), flush=True)


def main(report, cluster):
    lab, vm = cluster.up(dirty=5_000_000)
    active, standby = "hostA", "hostB"
    for_a_moment(report, lab, vm, active, standby)
    for_good(report, lab, vm, active, standby, " (delay of 100 ms)")
    lab.mcctl(standby, "set", vm.name, "delay=2s")
    for_good(report, lab, vm, standby, active, " (delay of 2 s)")


if __name__ == "__main__":
    run(main)
