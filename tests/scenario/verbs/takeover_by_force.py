# SPDX-License-Identifier: GPL-2.0-or-later
"""Two hosts without a third voter: nothing fails over by itself; the operator's word does it."""
import time

from mclab.scenario import run


def main(report, cluster):
    lab, vm = cluster.up(dirty=2_000_000, hosts=("hostA", "hostB"))
    watch = lab.watch(vm)
    client = lab.start_client(vm, patience=120)
    client.wait_acked(20)

    report.refused("a takeover while the primary lives", lambda: lab.mcctl("hostB", "takeover", "vm1"), "WrongState")

    off = lab.poweroff("hostA")
    time.sleep(3)
    status = lab.status("hostB")
    report.check(status["role"] == "standby" and status["alarm"], "the standby holds, with an alarm", status)
    report.check(client.last["last_answer"] < off + 1e9, "nothing answers", client.last)
    report.refused("a takeover without force explains the risk",
                   lambda: lab.mcctl("hostB", "takeover", "vm1"), "NoMajority")
    report.refused("force without the VM's name", lambda: lab.mcctl("hostB", "takeover", "vm1", "--force"))
    report.refused("force with another name",
                   lambda: lab.mcctl("hostB", "takeover", "vm1", "--force", "--confirm", "vm2"))
    lab.mcctl("hostB", "takeover", "vm1", "--force", "--confirm", "vm1")
    lab.wait_state("hostB", "vm1", "unprotected", 10)
    client.wait_acked(20, timeout=30)
    report.check(True, "the VM goes on by the operator's word")
    report.watch(watch.stop(), vm, 1)

    lab.boot("hostA")
    lab.wait_state("hostB", "vm1", "protected", 60)
    report.check(lab.status("hostA")["role"] == "standby", "the other host learns it and becomes the standby")

    off = lab.poweroff("hostA")
    time.sleep(2)
    status = lab.status("hostB")
    report.check(status["state"] == "holding" and status["alarm"], "a primary without its standby holds, too", status)
    lab.mcctl("hostB", "takeover", "vm1", "--force", "--confirm", "vm1")
    lab.wait_state("hostB", "vm1", "unprotected", 10)
    client.wait_acked(20, timeout=30)
    report.client(client.stop())


if __name__ == "__main__":
    run(main)
