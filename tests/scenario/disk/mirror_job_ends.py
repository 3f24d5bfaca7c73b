# SPDX-License-Identifier: GPL-2.0-or-later
"""The mirror's job ends behind mcd's back: nothing is acknowledged that the standby does not have."""
import time

from mclab.scenario import run
from mclab.vm import Disk, DiskLog, user_qmp


def main(report, cluster):
    lab, vm = cluster.up(disk=Disk())
    client = lab.start_client(vm)
    client.wait_acked(20)
    host = lab.hosts["hostA"]
    with user_qmp(host, vm) as qmp:
        jobs = qmp.command("query-block-jobs")
        report.check([j["type"] for j in jobs] == ["mirror"] and jobs[0]["ready"], "the disk has its mirror", jobs)
        at = time.monotonic_ns()
        qmp.command("block-job-cancel", device=jobs[0]["device"], force=True)
    lost = lab.events["hostA"].wait("PROTECTION_ENDED", 5, at)
    report.check("disk0" in lost["data"]["reason"], "the protection ends, and says why", lost)
    client.wait_acked(20)
    lab.wait_state("hostA", "vm1", "protected", 30)
    client.wait_acked(20)
    lab.poweroff("hostA")
    client.wait_acked(20, timeout=30)
    summary = client.stop()
    report.client(summary)
    log = DiskLog(vm.disk.used(lab.hosts["hostB"]), lab.dir)
    missing = [r["n"] for r in client.requests() if r["n"] not in log.chains]
    report.check(log.clean and not missing, "the standby's disk has every answered request", (log.report[-300:], missing[:5]))


if __name__ == "__main__":
    run(main)
