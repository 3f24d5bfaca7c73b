# SPDX-License-Identifier: GPL-2.0-or-later
"""A protected guest that stands still, as an administrator would stop it, and its disk while nobody writes."""
import contextlib

from .proc import LabError, wait_for
from .vm import DiskLog, user_qmp


def epochs(lab, vm, host, n):
    """Waits until so many more have ended."""
    first = lab.status(host, vm.name)["epoch"]
    wait_for(lambda: lab.status(host, vm.name)["epoch"] >= first + n, 20, "epochs go on")


def stop_guest(lab, vm, host):
    """Between mcd's stop and its cont QEMU takes another stop for done and keeps no trace of it, so an
    administrator looks whether the guest goes on, and so do we.  QEMU tells of that: to ask whether it
    stands says nothing, for it does so in each pause."""
    for _ in range(5):
        with user_qmp(lab.hosts[host], vm) as qmp:
            qmp.command("stop")
            qmp.events.clear()
            epochs(lab, vm, host, 3)
            if qmp.command("query-status")["status"] == "paused" and "RESUME" not in qmp.events:
                return
    raise LabError("five times in a row the guest went on after it was stopped")


def continue_guest(lab, vm, host):
    """In the middle of a checkpoint it would spoil that and end the protection, so just after one."""
    lab.mcctl(host, "set", vm.name, "delay=2s")
    epochs(lab, vm, host, 1)
    with user_qmp(lab.hosts[host], vm) as qmp:
        qmp.command("cont")
    lab.mcctl(host, "set", vm.name, "delay=%s" % (vm.delay or lab.delay))


@contextlib.contextmanager
def stopped(lab, vm, host):
    """QEMU has nothing of its own left to write, and the standby has all that there is."""
    stop_guest(lab, vm, host)
    epochs(lab, vm, host, 4)  # one that was under way, one with what it missed, one to be sure
    try:
        yield
    finally:
        continue_guest(lab, vm, host)


def look(lab, vm, host):
    return DiskLog(vm.disk.used(lab.hosts[host]), lab.dir)


def check_disk(report, lab, disk, clients, what=""):
    """disk: a DiskLog.  The file system needs no repair and has all that these clients got answers to."""
    report.check(disk.clean, "the file system is clean" + what, disk.report, safety=True)
    answered = [r for c in clients for r in c.requests()]
    missing = [r["n"] for r in answered if disk.chains.get(r["n"]) != r["chain"]]
    report.check(answered and not missing, "every acknowledged request is on the disk" + what,
                 "%d of %d missing, the first %s; the disk ends at %d" % (
                     len(missing), len(answered), missing[:1], disk.last), bool(missing))


def outlives_power_loss(report, lab, vm, client):
    """hostA is switched off: the client's connection goes on at hostB, whose disk has all that it was told."""
    off = lab.poweroff("hostA")
    running = lab.events["hostB"].wait("RUNNING", 15, off)
    client.wait_answer_after(running["time"])
    client.wait_acked(5)
    report.client(client.stop())
    check_disk(report, lab, look(lab, vm, "hostB"), [client])
