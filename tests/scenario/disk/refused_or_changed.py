# SPDX-License-Identifier: GPL-2.0-or-later
"""What a standby cannot hold is refused with a sentence that says why, and what changes a protected
machine ends its protection; the VM runs on untouched, and is never taken over by a standby that has
another machine or another disk."""
import os
import shutil

from mclab.control import CommandError
from mclab.proc import LabError, now, wait_for
from mclab.quiet import outlives_power_loss
from mclab.scenario import run
from mclab.vm import Disk, user_qmp

MIB = 1 << 20


class BigDisk(Disk):
    """With more data than the small file system of full() takes."""

    def make(self, host):
        super().make(host)
        filler = host.path("disks", "filler")
        with open(filler, "wb") as f:
            f.write(os.urandom(32 * MIB))
        host.run(["debugfs", "-w", "-R", "write %s filler" % filler, self.path(host)], timeout=60)
        os.unlink(filler)


def refused(report, what, words, action, cls, limit=15):
    """And the sentence says what is wrong."""
    said = []

    def keep():
        try:
            return action()
        except CommandError as e:
            said.append(e.message)
            raise

    if report.refused(what + " is refused", keep, cls, limit):
        report.check(words in said[0], "and the error tells: " + words, said[0])


def untouched(report, lab, vm, client, qemu, what):
    status = lab.status("hostA")
    report.check(status["state"] == "unprotected" and lab.qemu("hostA", vm) == qemu and not status["alarm"],
                 "the VM runs on untouched" + what, status)
    client.wait_acked(5)


def refusals(report, lab, vm, client, qemu):
    def protect():
        return lab.protect(vm, "hostA", "hostB")

    host = lab.hosts["hostB"]
    replica = vm.disk.replica(host)
    with open(replica, "wb") as f:
        f.truncate(vm.disk.bytes + MIB)
    refused(report, "a replica of another size", "has %d bytes" % (vm.disk.bytes + MIB), protect, "ConfigError")
    untouched(report, lab, vm, client, qemu, " (another size)")
    report.check(os.path.getsize(replica) == vm.disk.bytes + MIB, "and so is that file left alone")

    shutil.rmtree(host.path("disks"))
    refused(report, "a directory that is not there", "No such file or directory", protect, "ConfigError")
    untouched(report, lab, vm, client, qemu, " (no directory)")

    os.mkdir(host.path("disks"))
    host.run(["mount", "-t", "tmpfs", "-o", "size=16m", "small", "/run/lab/disks"])
    refused(report, "a file system that is too small", "No space left", protect, "Failed", 30)
    untouched(report, lab, vm, client, qemu, " (too small)")
    report.refused("the half of a copy is not started", lambda: lab.mcctl("hostB", "start", vm.name, "--force"))
    host.run(["umount", "/run/lab/disks"])


def changes(report, lab, vm, client, qemu):
    lab.protect(vm, "hostA", "hostB")
    with user_qmp(lab.hosts["hostA"], vm) as q:
        for what, command, arguments in (
                ("resize of the disk", "block_resize", {"node-name": "disk0", "size": vm.disk.bytes + MIB}),
                ("removal of the disk", "blockdev-del", {"node-name": "disk0"})):
            try:
                q.command(command, **arguments)
                report.check(False, "a %s is refused by QEMU while it is mirrored" % what)
            except LabError as e:
                report.check(True, "a %s is refused by QEMU while it is mirrored" % what, e)
        report.check(lab.status("hostA")["state"] == "protected", "and the VM is protected all the time",
                     lab.status("hostA"))
        at = now()
        q.command("device_add", driver="virtio-balloon-pci", id="balloon9", bus="rp0")
        lab.events["hostA"].wait("RUNNING", 15, at)
        lost = lab.events["hostA"].find("PROTECTION_ENDED", at)["data"]["reason"]
        report.check("plugged" in lost, "a device that is plugged in ends the protection, and that is said", lost)
        lab.events["hostB"].wait("DISCARDED", 15, at)
        untouched(report, lab, vm, client, qemu, " (device plugged in)")
        refused(report, "protecting it with that device", "plugged", lambda: lab.protect(vm, "hostA", "hostB"),
                "GuestUnsuitable")
        q.command("device_del", id="balloon9")
        wait_for(lambda: not any(d["name"] == "balloon9" for d in q.command("qom-list", path="/machine/peripheral")),
                 15, "the guest lets the device go")
    lab.wait_state("hostA", vm.name, "protected", 60)
    report.check(True, "once it is unplugged the VM is protected again by itself")


def main(report, cluster):
    lab, vm = cluster.up(protect=False, disk=BigDisk(megabytes=64), options=["-device pcie-root-port,id=rp0,slot=1"])
    os.makedirs(lab.hosts["hostB"].path("disks"), exist_ok=True)
    client = lab.start_client(vm)
    qemu = lab.qemu("hostA", vm)
    client.wait_acked(5)
    refusals(report, lab, vm, client, qemu)
    changes(report, lab, vm, client, qemu)
    client.wait_acked(10)
    outlives_power_loss(report, lab, vm, client)


if __name__ == "__main__":
    run(main)
