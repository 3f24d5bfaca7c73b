# SPDX-License-Identifier: GPL-2.0-or-later
"""The standby is cut off from everybody, on the cluster's network and then on the VMs', too: the
primary goes on, the standby can never win and is never seen; protected again once it is back."""
import time

from mclab.proc import now
from mclab.scenario import run


def isolated(report, lab, vm, networks, what):
    watch = lab.watch(vm)
    client = lab.start_client(vm)
    client.wait_acked(10)
    qemu = lab.qemu("hostA", vm)
    cut = now()
    lab.switch.isolate("hostB", networks)
    running = lab.events["hostA"].wait("RUNNING", 15, cut)
    client.wait_answer_after(running["time"])
    time.sleep(2)  # time for the standby to do something if it were going to
    status = lab.status("hostB")
    report.check(status["role"] == "standby" and status["alarm"], "the isolated standby holds, with an alarm" + what,
                 status)
    report.check(not lab.events["hostB"].find("RUNNING", cut) and not lab.events["hostB"].find("VOTE_WON", cut),
                 "it wins nothing and runs nothing" + what)
    client.wait_acked(10)
    healed = now()
    lab.switch.rejoin("hostB", networks)
    lab.events["hostB"].wait("DISCARDED", 15, healed)
    report.check(True, "it learns that it lost, and discards its copy" + what)
    status = lab.wait_state("hostA", "vm1", "protected", 60)
    report.check(status["peer"] == "hostB" and lab.qemu("hostA", vm) == qemu,
                 "the VM is protected with it again, in the same QEMU" + what, status)
    report.check(not lab.status("hostB").get("alarm"), "and its alarm is over" + what)
    client.wait_acked(10)
    report.client(client.stop(), what)
    seen = watch.stop()
    report.watch(seen, vm, 0, what)
    at = [p["port"] for p in seen["macs"][0]["ports"] if p["frames"]]
    report.check(at == ["hostA"], "not a frame of the VM comes from the standby" + what, at)


def main(report, cluster):
    lab, vm = cluster.up(dirty=2_000_000)
    isolated(report, lab, vm, ("cluster",), "")
    if not report.failed:
        isolated(report, lab, vm, ("cluster", "vm"), " (both networks)")


if __name__ == "__main__":
    run(main)
