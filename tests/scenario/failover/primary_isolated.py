# SPDX-License-Identifier: GPL-2.0-or-later
# check: quick
"""The primary loses the cluster network but not the VMs' one: from its last acknowledged epoch on it
is silent, the standby takes over, and when it is back it learns that it lost and destroys its copy.
Then the same with a host that is frozen as a whole and wakes up."""
import time

from mclab.proc import now, wait_for
from mclab.scenario import run


def isolated(report, lab, vm):
    watch = lab.watch(vm)
    client = lab.start_client(vm)
    client.wait_acked(10)
    cut = now()
    lab.switch.isolate("hostA")
    running = lab.events["hostB"].wait("RUNNING", 15, cut)
    client.wait_answer_after(running["time"])
    time.sleep(2)  # time for the old primary to say something if it were going to
    report.check(lab.status("hostA")["state"] not in ("protected", "unprotected"),
                 "an isolated primary does not claim to run the VM", lab.status("hostA"))
    healed = now()
    lab.switch.rejoin("hostA")
    lab.events["hostA"].wait("DISCARDED", 15, healed)
    wait_for(lambda: lab.status("hostB")["state"] == "protected", 60, "hostB protects vm1 with hostA")
    client.wait_acked(10)
    report.client(client.stop(), " (isolated)")
    seen = watch.stop()
    ports = {p["port"]: p for p in seen["macs"][0]["ports"]}
    report.watch(seen, vm, 1, " (isolated)")
    report.check(ports["hostA"]["last_ns"] < ports["hostB"]["first_ns"],
                 "nothing of the VM leaves the isolated host after it is seen at the other", ports)


def frozen(report, lab, vm):
    if not lab.hosts["hostB"].freezer.dir:
        report.skip("no cgroup freezer on this machine: a frozen host cannot be tried")
        return
    watch = lab.watch(vm)
    client = lab.start_client(vm)
    client.wait_acked(10)
    freeze = now()
    lab.hosts["hostB"].freezer.freeze()
    running = lab.events["hostA"].wait("RUNNING", 15, freeze)
    client.wait_answer_after(running["time"])
    time.sleep(1)
    lab.hosts["hostB"].freezer.thaw()
    lab.events["hostB"].wait("DISCARDED", 15, freeze)
    client.wait_acked(10)
    report.client(client.stop(), " (frozen)")
    report.watch(watch.stop(), vm, 1, " (frozen)")


def main(report, cluster):
    lab, vm = cluster.up(dirty=2_000_000)
    isolated(report, lab, vm)
    if not report.failed:
        frozen(report, lab, vm)


if __name__ == "__main__":
    run(main)
