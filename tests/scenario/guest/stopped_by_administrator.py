# SPDX-License-Identifier: GPL-2.0-or-later
"""The administrator stops a protected guest by a QMP socket of his own: it stays protected, and
stopped, and nothing but he makes it run again; not a takeover either, nor one that a second mcd ends.
When he lets it go on in the middle of a checkpoint, that one is no image of one moment, and is not sent."""
import time

from mclab.proc import now, wait_for
from mclab.quiet import epochs, stop_guest
from mclab.scenario import run
from mclab.vm import user_qmp


def state_of(lab, host, vm):
    with user_qmp(lab.hosts[host], vm) as q:
        return q.command("query-status")["status"]


def stop(report, lab, vm, host, client, what):
    stop_guest(lab, vm, host)
    epochs(lab, vm, host, 3)
    time.sleep(1)  # what was on its way is with the client, and reported
    acked = client.last["acked"]
    time.sleep(1)
    report.check(lab.status(host)["state"] == "protected" and client.last["acked"] == acked,
                 "a stopped guest stays stopped, and protected" + what)


def go_on(report, lab, vm, host, client, watch, what):
    time.sleep(1)
    report.check(state_of(lab, host, vm) == "paused", "after the takeover it is still stopped" + what,
                 state_of(lab, host, vm))
    report.check(not lab.status(host).get("alarm"), "which is no reason for an alarm" + what, lab.status(host))
    with user_qmp(lab.hosts[host], vm) as q:
        q.command("cont")
    client.wait_acked(10)
    report.client(client.stop(), what)
    report.watch(watch.stop(), vm, 1, what)


def impatient(report, lab, vm, host):
    """Says cont until one falls into a pause."""
    client = lab.start_client(vm, patience=60)
    client.wait_acked(10)
    since, deadline = now(), now() + 60e9
    with user_qmp(lab.hosts[host], vm) as q:
        while not (ended := lab.events[host].find("STATE_CHANGED", since)) and now() < deadline:
            for _ in range(20):
                q.command("cont")
    report.check(ended and "continued" in ended["data"].get("reason", ""),
                 "a guest that is let go on in the middle of a checkpoint ends the protection, with the reason", ended)
    lab.wait_state(host, "vm1", "protected", 60)
    client.wait_acked(20)
    report.client(client.stop(), " (the guest was let go on in a checkpoint)")


def main(report, cluster):
    lab, vm = cluster.up(dirty=2_000_000)
    impatient(report, lab, vm, "hostA")
    watch = lab.watch(vm)
    client = lab.start_client(vm, patience=60)
    client.wait_acked(10)
    stop(report, lab, vm, "hostA", client, "")
    off = lab.poweroff("hostA")
    lab.events["hostB"].wait("RUNNING", 15, off)
    go_on(report, lab, vm, "hostB", client, watch, "")

    what = " (mcd dies in the takeover)"
    lab.hosts["hostA"].gone()
    lab.hosts["hostA"].boot()
    lab.start_mcd("hostA", env={"MCD_FAILPOINT": "ACTIVATE"})
    lab.wait_state("hostB", "vm1", "protected", 60)
    watch = lab.watch(vm)
    client = lab.start_client(vm, patience=60)
    client.wait_acked(10)
    stop(report, lab, vm, "hostB", client, what)
    lab.poweroff("hostB")
    wait_for(lambda: lab.hosts["hostA"].mcd.poll() is not None, 10, "mcd dies at ACTIVATE")
    lab.start_mcd("hostA")
    lab.wait_state("hostA", "vm1", "unprotected", 15)
    go_on(report, lab, vm, "hostA", client, watch, what)


if __name__ == "__main__":
    run(main)
