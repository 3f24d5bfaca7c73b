# SPDX-License-Identifier: GPL-2.0-or-later
"""The administrator stops a protected guest by a QMP socket of his own: it stays protected, and
stopped, and nothing but he makes it run again; not a takeover either, nor one that a second mcd ends."""
import time

from mclab.proc import wait_for
from mclab.scenario import run
from mclab.vm import stop_guest, user_qmp


def state_of(lab, host, vm):
    with user_qmp(lab.hosts[host], vm) as q:
        return q.command("query-status")["status"]


def stop(report, lab, vm, host, client, what):
    def epochs_go_on():
        epoch = lab.status(host)["epoch"]
        wait_for(lambda: lab.status(host)["epoch"] > epoch + 2, 10, "epochs go on")

    stop_guest(lab.hosts[host], vm, epochs_go_on)
    epochs_go_on()
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


def main(report, cluster):
    lab, vm = cluster.up(dirty=2_000_000)
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
