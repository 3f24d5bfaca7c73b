# SPDX-License-Identifier: GPL-2.0-or-later
# check: quick
"""At a committed epoch all of the guest's RAM is the same, bit for bit, on both hosts.

The administrator stops the guest behind mcd's back; epochs go on, and after some of them nothing is
left that the standby does not have."""
from mclab.quiet import stopped
from mclab.scenario import QUICK, run
from mclab.vm import compare_memory, user_qmp


def main(report, cluster):
    lab, vm = cluster.up(dirty=5_000_000)
    host = lab.hosts["hostA"]
    client = lab.start_client(vm)
    client.wait_acked(20)
    qemus = lab.qemu("hostA", vm), lab.qemu("hostB", vm)
    report.check(all(qemus) and qemus[0] != qemus[1], "both hosts have a QEMU of the VM", qemus)
    _, differ = compare_memory(*qemus)
    report.check(differ, "the comparison sees the difference while the guest runs and writes")

    for i in range(1 if QUICK else 3):
        with stopped(lab, vm, "hostA"), user_qmp(host, vm) as qmp:
            report.check(qmp.command("query-status")["status"] == "paused",
                         "a guest that the administrator stopped stays stopped (%d)" % i)
            total, differ = compare_memory(*qemus)
            report.check(total >= vm.memory << 20 and not differ,
                         "all %d MiB are equal on both hosts at a committed epoch (%d)" % (total >> 20, i),
                         "%d pages differ, first %s" % (len(differ), differ[:5]), safety=True)
        client.wait_acked(10)
    report.check(lab.status("hostA")["state"] == "protected", "the VM is protected all the time", lab.status("hostA"))
    report.client(client.stop())


if __name__ == "__main__":
    run(main)
