# SPDX-License-Identifier: GPL-2.0-or-later
# check: quick
"""`mcctl failover` moves the VM to its standby, and back."""
from mclab.scenario import run


def main(report, cluster):
    lab, vm = cluster.up(dirty=2_000_000)
    watch = lab.watch(vm)
    client = lab.start_client(vm)
    client.wait_acked(10)
    before = lab.status("hostA")["generation"]
    lab.mcctl("hostA", "failover", "vm1")
    status = lab.wait_state("hostB", "vm1", "protected", 60)
    report.check(status["role"] == "primary" and status["generation"] > before,
                 "the VM runs on the former standby, in a new generation, protected by the other", status)
    client.wait_acked(10)
    report.client(client.stop())
    report.watch(watch.stop(), vm, 1)

    watch = lab.watch(vm)
    client = lab.start_client(vm)
    client.wait_acked(10)
    lab.mcctl("hostB", "failover", "vm1")
    status = lab.wait_state("hostA", "vm1", "protected", 60)
    report.check(status["role"] == "primary", "and back again", status)
    report.client(client.stop(), " (back)")
    report.watch(watch.stop(), vm, 1, " (back)")


if __name__ == "__main__":
    run(main)
