# SPDX-License-Identifier: GPL-2.0-or-later
"""The standby's host is powered off: the VM goes on where it is, unprotected, and is protected again
once the host is back."""
from mclab.scenario import run


def main(report, cluster):
    lab, vm = cluster.up(dirty=2_000_000)
    watch = lab.watch(vm)
    client = lab.start_client(vm)
    client.wait_acked(10)
    qemu = lab.qemu("hostA", vm)
    off = lab.poweroff("hostB")
    running = lab.events["hostA"].wait("RUNNING", 15, off)
    report.check(lab.events["hostA"].find("VOTE_WON", off) is not None, "it goes on only after a won vote")
    client.wait_answer_after(running["time"])
    client.wait_acked(20)
    status = lab.status("hostA")
    report.check(status["state"] == "unprotected" and status["held_bytes"] == 0 and not status["standby"],
                 "it runs unprotected and nothing is held any more", status)
    lab.boot("hostB")
    status = lab.wait_state("hostA", "vm1", "protected", 60)
    report.check(status["peer"] == "hostB", "it is protected again by itself when the standby is back", status)
    report.check(lab.qemu("hostA", vm) == qemu, "its QEMU is the same all the time")
    client.wait_acked(10)
    report.client(client.stop())
    report.watch(watch.stop(), vm, 0)


if __name__ == "__main__":
    run(main)
