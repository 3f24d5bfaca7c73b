# SPDX-License-Identifier: GPL-2.0-or-later
"""mcctl verify: both sides are equal while the guest works, and a single changed byte is found."""
import subprocess

from mclab.scenario import run
from mclab.vm import Disk, guest_memory


def spoil_memory(lab, vm, offset):
    """One byte of the replica, behind mcd's back; the page must be one that the guest leaves alone."""
    (size, paths), = guest_memory(lab.qemu("hostB", vm)).items()
    with open(paths[0], "r+b") as f:
        f.seek(offset)
        byte = f.read(1)
        f.seek(offset)
        f.write(bytes([byte[0] ^ 0x40]))


def spoil_disk(path, offset):
    with open(path, "r+b") as f:
        f.seek(offset)
        byte = f.read(1)
        f.seek(offset)
        f.write(bytes([byte[0] ^ 1]))


def check_vm(report, lab, vm, what):
    disk = vm.disk
    client = lab.start_client(vm)
    client.wait_acked(50)
    before = lab.status("hostA", vm.name)["pause"]
    result = lab.mcctl("hostA", "verify", vm.name)
    after = lab.status("hostA", vm.name)["pause"]
    report.check(result["different"] == 0 and result["memory_bytes"] == vm.memory << 20 and
                 result["disk_bytes"] == disk.bytes, "a working guest's sides are equal, all of them" + what, result)
    print("# %s: %d epochs, %.1f s; pause p50 %.2f ms before, %.2f ms with it" % (
        disk.format, result["last_epoch"] - result["first_epoch"] + 1, result["seconds"], before["p50_ms"], after["p50_ms"]))
    report.check(after["p50_ms"] < 1.5 * before["p50_ms"] + 1, "its pauses are no longer" + what, (before, after))

    # The last page of memory, which a small guest never needs.
    spoiled = {"memory": (vm.memory << 20) - 1000, "disk": disk.bytes - 5000}
    spoil_memory(lab, vm, spoiled["memory"])
    spoil_disk(disk.replica(lab.hosts["hostB"]), spoiled["disk"])
    result = lab.request("hostA", "verify", vm=vm.name)
    found = [(d["what"], d["offset"] <= spoiled[d["what"]] < d["offset"] + d["length"]) for d in result["differences"]]
    report.check(sorted(found) == [("disk", True), ("memory", True)], "a changed byte is found, on either" + what, result)
    r = subprocess.run([lab.tool("mcctl/mcctl"), "--socket", lab.hosts["hostA"].socket, "verify", vm.name],
                       capture_output=True, text=True, timeout=60, check=False)
    report.check(r.returncode == 1 and "DIFFER" in r.stdout, "mcctl verify says so, and exits with 1" + what,
                 (r.returncode, r.stdout, r.stderr))
    report.client(client.stop(), what)


def main(report, cluster):
    lab, vm = cluster.up(dirty=3_000_000, disk=Disk())
    check_vm(report, lab, vm, " (raw)")
    lab.mcctl("hostA", "unprotect", "vm1")
    report.refused("not protected: refused", lambda: lab.request("hostA", "verify", vm="vm1"), "WrongState")
    report.refused("an unknown VM: refused", lambda: lab.request("hostA", "verify", vm="vm9"), "UnknownVm")
    lab.mcctl("hostA", "stop", "vm1", "--force")
    other = lab.add_vm("vm2", dirty=1_000_000, disk=Disk(fmt="qcow2", kind="virtio-scsi", name="vm2-disk0"))
    for host in lab.hosts:
        lab.stop_mcd(host)
        lab.start_mcd(host)
    lab.wait_voters("hostA", 3)
    lab.start_vm(other, "hostA")
    lab.protect(other, "hostA", "hostB")
    check_vm(report, lab, other, " (qcow2)")


if __name__ == "__main__":
    run(main)
