# SPDX-License-Identifier: GPL-2.0-or-later
"""Both hosts lose their power at a random moment while the guest makes each request durable before it
answers (disk-durability = flush, the default), and the primary's disk never comes back.  The standby's
forgets everything that was not fdatasynced, as tests/tools/forget.c knows; the VM is started from it
by force, and has every request that was acknowledged.

What happens to be written all the same, sector by sector, is the matter of the unit test
`durability`."""
import time

from mclab.forget import forget
from mclab.quiet import check_disk, look
from mclab.scenario import random_moments, repetitions, run
from mclab.vm import Disk


def one_run(report, lab, vm, clients, active, standby, wait, what):
    client = lab.start_client(vm, think=1, patience=60)
    clients.append(client)
    client.wait_acked(20)
    time.sleep(wait)
    # The other way round the standby would go on; and what the primary answered alone would be lost with it.
    lab.switch.links(active, False, ("vm",))
    lab.poweroff(standby)
    lab.poweroff(active)
    undone = forget(lab.hosts[standby])
    lab.boot(standby)
    lab.wait_heard(standby, "hostC")
    lab.wait_voters(standby, 2)
    report.refused("without --force the standby's copy is not started" + what,
                   lambda: lab.mcctl(standby, "start", vm.name), "NotOwner")
    booted = lab.boots(vm, standby)
    lab.mcctl(standby, "start", vm.name, "--force")
    lab.wait_boot(vm, standby, booted)
    acked = client.last["acked"]
    client.wait_acked(5, timeout=60)
    summary = client.stop()
    report.check(summary["complete"] and not summary["lost"] and not summary["bad"],
                 "the guest has every acknowledged request" + what, summary)
    check_disk(report, lab, look(lab, vm, standby), clients, what)
    print("#%s: %d requests before, forgotten: %s" % (what, acked, undone), flush=True)
    return sum(undone.values())


def main(report, cluster):
    runs = repetitions(2, 4, 4)
    moments = random_moments()
    lab, vm = cluster.up(lab_options={"mcd": "tests/tools/mcd-forget"}, dirty=1_000_000, disk=Disk(megabytes=64))
    active, standby, clients, undone = "hostA", "hostB", [], 0
    for i in range(1, runs + 1):
        undone += one_run(report, lab, vm, clients, active, standby, moments.uniform(0.0, 0.6),
                          " (run %d of %d)" % (i, runs))
        if report.failed:
            return
        if i < runs:
            lab.boot(active)
            active, standby = standby, active
            lab.wait_heard(active, standby)
            lab.protect(vm, active, standby)
    report.check(undone, "something was forgotten")


if __name__ == "__main__":
    run(main)
