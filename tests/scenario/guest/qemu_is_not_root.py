# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU runs as another user than root, the way libvirt has it (user =) or by QEMU's own -runas: its host is
lost, the standby goes on as that user, and mcd finds, verifies and mirrors it all the same."""
from mclab.proc import run as command
from mclab.proc import wait_for
from mclab.scenario import run
from mclab.vm import Disk

UID, GID = 65534, 65534
SANDBOX = "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


def ids(pid):
    """Real, effective, saved and file-system uids and gids, and the capabilities, of all its threads."""
    found = set()
    for task in command(["ls", "/proc/%d/task" % pid]).split():
        with open("/proc/%d/task/%s/status" % (pid, task), encoding="ascii") as f:
            fields = dict(line.split(":", 1) for line in f)
        found.add((fields["Uid"].split()[0], *fields["Uid"].split(), *fields["Gid"].split(),
                   int(fields["CapEff"], 16), int(fields["CapPrm"], 16)))
    return found


def is_nobody(lab, host, vm):
    return ids(lab.qemu(host, vm)) == {(str(UID),) * 5 + (str(GID),) * 4 + (0, 0)}


def row(lab, host, name):
    return next((c for c in lab.request(host, "check")["checks"] if c["name"] == name), {})


def story(report, lab, vm, what):
    report.check(is_nobody(lab, "hostA", vm), "every thread of QEMU is nobody's" + what, ids(lab.qemu("hostA", vm)))
    lab.protect(vm, "hostA", "hostB")
    report.check(is_nobody(lab, "hostB", vm), "and of the standby's" + what, ids(lab.qemu("hostB", vm)))
    checked = row(lab, "hostA", "VM %s, user" % vm.name)
    report.check(checked.get("ok") and str(UID) in checked.get("detail", ""), "mcctl check says so" + what, checked)
    client = lab.start_client(vm, patience=60)
    client.wait_acked(20)
    result = lab.mcctl("hostA", "verify", vm.name)
    report.check(result["different"] == 0 and bool(result["disk_bytes"]) == bool(vm.disk),
                 "the sides are equal" + what, result)

    qemu = lab.qemu("hostA", vm)
    lab.kill_mcd("hostA")
    lab.start_mcd("hostA")
    # The standby may be faster, when the machine is busy.
    active = wait_for(lambda: next((h for h in ("hostA", "hostB") if lab.status(h, vm.name).get("state") == "protected"),
                                   None), 60, "it is protected again")
    standby = "hostB" if active == "hostA" else "hostA"
    report.check(active == "hostB" or lab.qemu("hostA", vm) == qemu, "a new mcd finds it" + what, (qemu, active))

    watch = lab.watch(vm)
    client.wait_acked(5)
    off = lab.poweroff(active)
    running = lab.events[standby].wait("RUNNING", 15, off)
    client.wait_answer_after(running["time"])
    client.wait_acked(20)
    report.check(is_nobody(lab, standby, vm), "it runs as nobody on the other host" + what)
    lab.boot(active)
    lab.wait_state(standby, vm.name, "protected", 60)
    client.wait_acked(20)
    report.client(client.stop(), what)
    report.watch(watch.stop(), vm, 1, what)
    lab.mcctl(standby, "stop", vm.name, "--force")
    return standby


def main(report, cluster):
    lab, vm = cluster.up(protect=False, dirty=2_000_000, disk=Disk(fmt="qcow2"), user="%d:%d" % (UID, GID),
                         options=[SANDBOX])
    story(report, lab, vm, " (user =)")

    other = lab.add_vm("vm2", dirty=2_000_000, disk=Disk(name="vm2-disk0"), options=["-runas %d:%d" % (UID, GID)])
    lab.start_vm(other, "hostA")
    story(report, lab, other, " (-runas)")

    both = lab.add_vm("vm3", user="0:1", options=["-runas %d:%d" % (UID, GID)])
    report.refused("two users are refused", lambda: lab.mcctl("hostA", "start", both.name), "ConfigError")
    lab.write_vm("hostA", "vm3", both.config().replace("user = 0:1", "user = nobody-of-that-name"))
    report.refused("an unknown user is refused", lambda: lab.mcctl("hostA", "start", both.name), "ConfigError")


if __name__ == "__main__":
    run(main)
