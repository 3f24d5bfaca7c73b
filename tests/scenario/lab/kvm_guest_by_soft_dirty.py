# SPDX-License-Identifier: GPL-2.0-or-later
"""Lab hosts with Linux 6.1: dirty tracking by soft-dirty bits, for its unit test and for a guest under KVM whose
QEMU is not root's and whose output the plug holds.  Its QEMU is killed; on the other host its clocks go on, and its
agent sets the time.  Then that host is switched off.

MCD_KERNEL=6.12: the same with PAGEMAP_SCAN."""
import os
import time

from mclab.guestclock import Reading
from mclab.lab import Lab
from mclab.proc import LabError, now, wait_for
from mclab.scenario import run

KERNEL = os.environ.get("MCD_KERNEL", "6.1")
TRACKING = {"6.1": "soft-dirty", "6.12": "pagemap-scan"}[KERNEL]
HOSTS = ("hostA", "hostB")
NOBODY = "65534:65534"
# Emulated hosts on few cores stand still for hundreds of ms.
PATIENCE = 180


def unit_test(report, lab, host):
    """That needs a QEMU and what this machine's kernel may lack; the others boot a kernel of their own."""
    program = lab.tool("tests/unit/guest/test-dirty-qemu")
    # 77 is a skip, which is no success here.
    said = host.run(["sh", "-c", 'r=0; "$0" "$1" 2>&1 || r=$?; echo "status $r"', program, TRACKING], timeout=PATIENCE)
    report.check(said.endswith("status 0\n"), "test-dirty-qemu passes with %s on Linux %s" % (TRACKING, KERNEL), said[-500:])


def row(lab, host, name):
    return next((c for c in lab.request(host, "check", vm="vm1")["checks"] if c["name"] == name), {})


def closed_kvm(report, lab):
    """/dev/kvm is root's there: mcctl check must know that QEMU's user cannot open it."""
    for host in HOSTS:
        lab.hosts[host].run(["chmod", "600", "/dev/kvm"])
    said = row(lab, "hostA", "VM vm1, KVM")
    report.check(said.get("ok") is False and NOBODY in said["detail"] and "kvm" in said["hint"],
                 "mcctl check says that /dev/kvm is closed to QEMU's user, and the cure", said)
    for host in HOSTS:
        lab.hosts[host].run(["chmod", "666", "/dev/kvm"])
    said = row(lab, "hostA", "VM vm1, KVM")
    report.check(said.get("ok"), "and that it can be used", said)


def protect(lab, vm):
    """On a machine that is too busy the links between the hosts come and go for a while."""
    def started():
        try:
            return lab.start_vm(vm, "hostA", PATIENCE)
        except LabError as e:
            if "NoMajority" not in str(e):
                raise
            return None
    wait_for(started, PATIENCE, "vm1 starts", 1)
    lab.request("hostA", "protect", timeout=PATIENCE, vm=vm.name, peer="hostB")


def is_nobody(lab, host, vm):
    said = lab.hosts[host].run(["grep", "-E", "^(Uid|Gid|CapEff)", "/proc/%d/status" % lab.qemu(host, vm)])
    return said.split() == ["Uid:"] + ["65534"] * 4 + ["Gid:"] + ["65534"] * 4 + ["CapEff:", "0" * 16]


def inspect(report, lab):
    """What is under test is really in use."""
    status = lab.mcctl("hostA", "status")
    report.check(status["dirty"] == TRACKING, "a KVM guest of nobody's is protected with " + TRACKING)
    report.check((status["netbuf"], status["vms"][0]["transport"]) == ("plug", "tcp"),
                 "its output is held by the plug, its checkpoints go by TCP", status)


def qemu_dies(report, lab, vm, client):
    watch = lab.watch(vm)
    client.wait_acked(5, PATIENCE)
    before = Reading(lab, vm)
    at = now()
    lab.hosts["hostA"].kill9(lab.qemu("hostA", vm))
    running = lab.events["hostB"].wait("RUNNING", PATIENCE, at)["time"]
    client.wait_answer_after(running, PATIENCE)
    after = Reading(lab, vm)
    report.check(is_nobody(lab, "hostB", vm), "it goes on at the other host, as nobody")
    passed, lived, error = after.at - before.at, after.mono - before.mono, before.error + after.error
    report.check(after.back == 0 and 0 < lived < passed + error,
                 "the guest's monotonic clock (%s) goes on" % after.source, (passed, lived, error, after.back))
    told = lab.events["hostB"].wait("GUEST_TIME", PATIENCE, running)["data"]
    later = Reading(lab, vm)
    passed, lived, error = later.at - after.at, later.mono - after.mono, after.error + later.error
    report.check(passed - error - 0.5 < lived < passed + error, "at its pace", (passed, lived, error))
    report.check(told["set"], "the guest's agent sets its clock", told)
    print("# %s: running %.0f ms after the kill; %s; late %.3f s now" % (
        TRACKING, (running - at) / 1e6, told, later.behind), flush=True)
    report.watch(watch.stop(), vm, 1, " (its QEMU dies)")
    return running


def host_lost(report, lab, vm, client):
    watch = lab.watch(vm)
    client.wait_acked(5, PATIENCE)
    off = lab.poweroff("hostB")
    running = lab.events["hostA"].wait("RUNNING", PATIENCE, off)["time"]
    client.wait_answer_after(running, PATIENCE)
    client.wait_acked(5, PATIENCE)
    report.check(is_nobody(lab, "hostA", vm), "it goes on where it was at first, as nobody")
    report.watch(watch.stop(), vm, 1, " (its host is lost)")
    print("# running %.0f ms after the power cut" % ((running - off) / 1e6), flush=True)


def main(report, cluster):
    began = time.monotonic()
    lab = cluster.lab = Lab(cluster.build, keepalive="200ms", misses=15, delay="200ms")
    lab.__enter__()
    lab.add_hosts(*HOSTS, kernel=KERNEL, load=["kvm", "plug"], boot_timeout=PATIENCE)
    lab.add_hosts("hostC")
    for host in HOSTS:
        lab.write_config(host, "netbuf = plug\ntransport = tcp")
    print("# booted after %.0f s" % (time.monotonic() - began), flush=True)
    unit_test(report, lab, lab.hosts["hostB"])
    lab.start_mcd()
    vm = lab.add_vm("vm1", accel="kvm", user=NOBODY, agent="/run/lab/run/vm1/qemu/agent.sock", dirty=200_000, region=8,
                    memory=160)
    closed_kvm(report, lab)
    protect(lab, vm)
    inspect(report, lab)
    print("# protected after %.0f s" % (time.monotonic() - began), flush=True)
    client = lab.start_client(vm, window=4, patience=PATIENCE)
    running = qemu_dies(report, lab, vm, client)
    # Asking for its state again and again would slow an emulated host down.
    lab.events["hostB"].wait("STATE_CHANGED", PATIENCE, running, to="protected")
    host_lost(report, lab, vm, client)
    report.client(client.stop(PATIENCE), " (outlives its QEMU and its host)")


if __name__ == "__main__":
    run(main)
