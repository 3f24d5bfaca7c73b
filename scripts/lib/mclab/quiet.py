# SPDX-License-Identifier: GPL-2.0-or-later
"""A VM's disk while nobody writes to it."""
import contextlib

from .vm import DiskLog, user_qmp


@contextlib.contextmanager
def stopped(lab, vm, host):
    """The guest stands still, and QEMU has nothing of its own left to write."""
    with user_qmp(lab.hosts[host], vm) as q:
        q.command("stop")
        try:
            yield
        finally:
            q.command("cont")


def look(lab, vm, host):
    with stopped(lab, vm, host):
        return DiskLog(vm.disk.used(lab.hosts[host]), lab.dir)


def check_disk(report, lab, disk, clients, what=""):
    """disk: a DiskLog.  The file system needs no repair and has all that these clients got answers to."""
    report.check(disk.clean, "the file system is clean" + what, disk.report)
    answered = [r for c in clients for r in c.requests()]
    missing = [r["n"] for r in answered if disk.chains.get(r["n"]) != r["chain"]]
    report.check(answered and not missing, "every acknowledged request is on the disk" + what,
                 "%d of %d missing, the first %s; the disk ends at %d" % (
                     len(missing), len(answered), missing[:1], disk.last))
