# SPDX-License-Identifier: GPL-2.0-or-later
"""A 256 MB disk mostly full of data.  The first protection copies it; after the standby was away, or
has become the primary, only what differs crosses the network, and what the former primary wrote
without its being committed is undone: the two copies are the same, byte for byte."""
import filecmp
import os
import random
import time

from mclab.quiet import check_disk, look, stopped
from mclab.scenario import run
from mclab.vm import Disk

MIB = 1 << 20
FILLED = 200 * MIB
# What may cross in a resynchronisation: some seconds of requests and the file system's journal, and
# each write of a few bytes makes a block of 64 KiB different.
FEW = 24 * MIB


class FilledDisk(Disk):
    """Random data in a file, which no digest of zeroes matches."""

    def make(self, host):
        super().make(host)
        filler = host.path("disks", "filler")
        with open(filler, "wb") as f:
            f.write(random.Random(1).randbytes(FILLED))
        host.run(["debugfs", "-w", "-R", "write %s filler" % filler, self.path(host)], timeout=60)
        os.unlink(filler)


def same(report, lab, vm, active, what):
    """With the guest stopped the epochs go on, without writes: the standby has all of the disk."""
    with stopped(lab, vm, active):
        a, b = (vm.disk.used(lab.hosts[h]) for h in ("hostA", "hostB"))
        report.check(filecmp.cmp(a, b, shallow=False), "both copies of the disk are the same" + what)


def figures(report, lab, vm, host, first, what):
    d = lab.status(host)["disks"]
    size = vm.disk.bytes
    detail = "sent %.1f MiB, skipped %.1f MiB of %.0f MiB" % (
        d["sent_bytes"] / MIB, d["skipped_bytes"] / MIB, size / MIB)
    if first:
        report.check(d["sent_bytes"] >= FILLED, "the first protection copies the data" + what, detail)
    else:
        report.check(d["sent_bytes"] <= FEW and d["skipped_bytes"] >= size - FEW,
                     "only what differs is sent" + what, detail)
    print("# %s%s" % (detail, what), flush=True)


def main(report, cluster):
    lab, vm = cluster.up(protect=False, disk=FilledDisk(megabytes=256))
    began = time.monotonic()
    lab.protect(vm, "hostA", "hostB")
    print("# first protection: %.1f s" % (time.monotonic() - began), flush=True)
    figures(report, lab, vm, "hostA", True, "")
    clients = [lab.start_client(vm, think=1)]
    clients[0].wait_acked(20)
    same(report, lab, vm, "hostA", "")

    off = lab.poweroff("hostB")
    lab.events["hostA"].wait("RUNNING", 15, off)
    clients[0].wait_acked(40)
    lab.boot("hostB")
    began = time.monotonic()
    lab.wait_state("hostA", "vm1", "protected", 60)
    print("# protected again after %.1f s" % (time.monotonic() - began), flush=True)
    figures(report, lab, vm, "hostA", False, " (the standby was away)")
    clients[0].wait_acked(20)
    same(report, lab, vm, "hostA", " (the standby was away)")

    clients[0].wait_acked(5)  # or the last committed epoch is one in which the guest stands still
    off = lab.poweroff("hostA")
    running = lab.events["hostB"].wait("RUNNING", 15, off)
    clients[0].wait_answer_after(running["time"])
    clients[0].wait_acked(40)
    report.client(clients[0].stop())
    # By what was never committed, and by what the survivor has written since.
    ahead = not filecmp.cmp(*(vm.disk.used(lab.hosts[h]) for h in ("hostA", "hostB")), shallow=False)
    report.check(ahead, "the former primary's copy is another one")
    lab.boot("hostA")
    lab.wait_state("hostB", "vm1", "protected", 60)
    figures(report, lab, vm, "hostB", False, " (the other way)")
    clients.append(lab.start_client(vm, think=1))
    clients[1].wait_acked(20)
    same(report, lab, vm, "hostB", " (the other way)")
    report.client(clients[1].stop(), " (the other way)")

    # And it is a copy to go on from.
    off = lab.poweroff("hostB")
    lab.events["hostA"].wait("RUNNING", 15, off)
    check_disk(report, lab, look(lab, vm, "hostA"), clients, " (back on hostA)")


if __name__ == "__main__":
    run(main)
