# SPDX-License-Identifier: GPL-2.0-or-later
"""`mcctl unprotect`: the VM runs on by itself, and its former standby can never take it over."""
import time

from mclab.proc import wait_for
from mclab.scenario import run


def main(report, cluster):
    lab, vm = cluster.up(dirty=2_000_000)
    client = lab.start_client(vm)
    client.wait_acked(10)
    qemu = lab.qemu("hostA", vm)
    lab.mcctl("hostA", "unprotect", "vm1")
    status = lab.status("hostA")
    report.check(status["state"] == "unprotected" and not status["standby"], "the VM is unprotected", status)
    report.check(lab.qemu("hostA", vm) == qemu, "its QEMU is the same")
    wait_for(lambda: lab.qemu("hostB", vm) is None, 10, "the standby's QEMU is gone")
    report.check(True, "the standby's copy is gone")
    client.wait_acked(100)
    time.sleep(3)
    report.check(lab.status("hostA")["state"] == "unprotected", "it stays so: the administrator wanted it",
                 lab.status("hostA"))
    report.client(client.stop())

    lab.mcctl("hostA", "set", "vm1", "delay=50ms")
    lab.protect(vm, "hostA", "hostB", delay="200ms")
    report.check(lab.status("hostA")["delay_ms"] == 200, "it can be protected again, with a delay of its own")
    lab.mcctl("hostA", "set", "vm1", "delay=50ms")
    report.check(lab.status("hostA")["delay_ms"] == 50, "the delay changes while it runs")
    lab.mcctl("hostA", "unprotect", "vm1")
    off = lab.poweroff("hostA")
    time.sleep(3)
    report.check(lab.events["hostB"].find("RUNNING", off) is None and lab.qemu("hostB", vm) is None,
                 "a host that is no longer the standby does not take over")


if __name__ == "__main__":
    run(main)
