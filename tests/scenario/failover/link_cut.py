# SPDX-License-Identifier: GPL-2.0-or-later
# check: quick
"""Only the link between primary and standby is cut, both reach the third voter: the primary is
preferred, the standby discards its copy; when the link is back the VM is protected again."""
from mclab.proc import now
from mclab.scenario import run


def main(report, cluster):
    lab, vm = cluster.up(dirty=2_000_000)
    watch = lab.watch(vm)
    client = lab.start_client(vm)
    client.wait_acked(10)
    cut = now()
    lab.switch.cut_pair("hostA", "hostB")
    running = lab.events["hostA"].wait("RUNNING", 15, cut)
    client.wait_answer_after(running["time"])
    lab.events["hostB"].wait("DISCARDED", 15, cut)
    report.check(lab.events["hostB"].find("RUNNING", cut) is None, "the standby never runs")
    report.check(lab.qemu("hostB", vm) is None, "the standby's QEMU is gone")
    client.wait_acked(10)
    lab.switch.heal_pairs()
    status = lab.wait_state("hostA", "vm1", "protected", 60)
    report.check(status["peer"] == "hostB", "it is protected again when the link is back", status)
    client.wait_acked(10)
    report.client(client.stop())
    report.watch(watch.stop(), vm, 0)


if __name__ == "__main__":
    run(main)
