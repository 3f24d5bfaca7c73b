# SPDX-License-Identifier: GPL-2.0-or-later
"""Raw and qcow2 images, virtio-blk and virtio-scsi, with and without an iothread: four VMs on one
host, which is powered off; all of them go on from their replicas, are protected the other way, and
come
back; one is stopped and started."""
from mclab.quiet import check_disk, look
from mclab.scenario import run
from mclab.vm import Disk

KINDS = (
    ("vm1", "raw", "virtio-blk", True),
    ("vm2", "qcow2", "virtio-blk", False),
    ("vm3", "raw", "virtio-scsi", False),
    ("vm4", "qcow2", "virtio-scsi", True),
)


def disk(name, fmt, kind, iothread):
    return Disk(fmt=fmt, kind=kind, iothread=iothread, name=name + "-disk0")


def what(k):
    return "%s image, %s%s" % (k[1], k[2], ", iothread" if k[3] else "")


def lose(report, lab, vms, clients, host, survivor, where):
    new = {}
    for vm in vms:
        new[vm] = lab.start_client(vm, think=2)
        clients[vm].append(new[vm])
    for c in new.values():
        c.wait_acked(10)
    off = lab.poweroff(host)
    for vm in vms:
        running = lab.events[survivor].wait("RUNNING", 20, off, vm=vm.name)
        new[vm].wait_answer_after(running["time"])
    for vm, k in zip(vms, KINDS):
        new[vm].wait_acked(5)
        report.client(new[vm].stop(), " (%s, %s)" % (what(k), where))
        check_disk(report, lab, look(lab, vm, survivor), clients[vm], " (%s, %s)" % (what(k), where))


def start_again(report, lab, vm, clients):
    """By now the image that was configured is old: nobody may boot from it, nor from the other's."""
    lab.mcctl("hostA", "stop", vm.name, "--force")
    lab.boot("hostB")
    lab.wait_voters("hostB", 3)
    report.refused("the host without the newest disk does not start the VM",
                   lambda: lab.mcctl("hostB", "start", vm.name), "NotOwner")
    booted = lab.boots(vm, "hostA")
    lab.mcctl("hostA", "start", vm.name)
    lab.wait_boot(vm, "hostA", booted)
    clients.append(lab.start_client(vm))
    clients[-1].wait_acked(5)
    report.client(clients[-1].stop(), " (started again)")
    check_disk(report, lab, look(lab, vm, "hostA"), clients, " (started again)")


def main(report, cluster):
    lab, vm = cluster.up(protect=False, memory=192, region=32, disk=disk(*KINDS[0]))
    vms = [vm] + [lab.add_vm(k[0], memory=192, region=32, disk=disk(*k)) for k in KINDS[1:]]
    clients = {vm: [] for vm in vms}
    for vm in vms[1:]:
        lab.start_vm(vm, "hostA")
    for vm in vms:
        lab.protect(vm, "hostA", "hostB")
    lose(report, lab, vms, clients, "hostA", "hostB", "takeover")
    lab.boot("hostA")
    for vm in vms:
        lab.wait_state("hostB", vm.name, "protected", 60)
    lose(report, lab, vms, clients, "hostB", "hostA", "and back")
    start_again(report, lab, vms[1], clients[vms[1]])


if __name__ == "__main__":
    run(main)
