# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMUs that cannot be protected, and hosts that cannot do it: a clear error within 2 s each, and
the VM runs on.  Every case has a VM of its own, so that one cannot cover for another."""
import os
import signal
import subprocess

from mclab.scenario import run

TRACER = r"""
import ctypes, sys, time
libc = ctypes.CDLL(None, use_errno=True)
if libc.ptrace(0x4206, int(sys.argv[1]), 0, 0): # PTRACE_SEIZE
    raise SystemExit("seize: errno %d" % ctypes.get_errno())
print("ready", flush=True)
time.sleep(600)
"""


def protect(lab, vm, host="hostA"):
    return lambda: lab.mcctl(host, "protect", vm, "--peer", "hostB", timeout=20)


def traced_by_another(report, lab, vm):
    qemu = lab.qemu("hostA", vm)
    tracer = subprocess.Popen(["python3", "-c", TRACER, str(qemu)], stdout=subprocess.PIPE, text=True)
    tracer.stdout.readline()
    report.refused("a QEMU that may not be traced", protect(lab, vm.name), ("NoPermission", "GuestUnsuitable"))
    tracer.kill()
    tracer.wait()
    tracer.stdout.close()


def silent_qmp(report, lab, vm):
    qemu = lab.qemu("hostA", vm)
    os.kill(qemu, signal.SIGSTOP)
    report.refused("a QEMU that does not answer", protect(lab, vm.name), ("Timeout", "QemuError", "WrongState"))
    os.kill(qemu, signal.SIGCONT)


def dead(report, lab, vm):
    lab.hosts["hostA"].kill9(lab.qemu("hostA", vm))
    report.refused("a dead QEMU", protect(lab, vm.name), ("WrongState", "GuestUnsuitable", "QemuError"))


def too_big(report, lab):
    """More memory than the machine has; nothing of it is used on the primary, all of it is promised
    on the standby."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    text = "\n    ".join(["[vm]\ncommand = qemu-system-x86_64 -accel tcg -machine q35 -m %dM" % (total + 4096),
                          "-nodefaults -no-user-config -vga none -display none",
                          "-device virtio-net-pci,netdev=net0,mac=52:54:00:77:03:01"]) + "\n[nic net0]\nbridge = br0\n"
    for h in ("hostA", "hostB"):
        lab.write_vm(h, "big", text)
    try:
        lab.mcctl("hostA", "start", "big")
    except Exception as e:  # then this machine cannot show it
        report.skip("a VM larger than this machine cannot be started: %s" % e)
        return
    report.refused("a standby without enough memory", protect(lab, "big"), "NotEnoughMemory")
    lab.mcctl("hostA", "stop", "big", "--force")


def no_tracking(report, lab):
    """hostC insists on soft-dirty, which this kernel may not have."""
    lab.stop_mcd("hostC")
    lab.write_config("hostC", "dirty-tracking = soft-dirty")
    lab.start_mcd("hostC")
    checks = [c for c in lab.request("hostC", "check")["checks"] if "dirty" in c["name"]]
    if not checks or checks[0]["ok"]:
        report.skip("this kernel has soft-dirty: its absence cannot be shown")
        return
    vm = lab.add_vm("vm2", hosts=("hostC", "hostB"), memory=128, region=8)
    lab.wait_heard("hostC", "hostB")
    lab.start_vm(vm, "hostC")
    report.refused("no dirty tracking in this kernel", protect(lab, "vm2", "hostC"), "KernelUnsuitable")
    report.check(lab.ask(vm, "CHECK").startswith("CHECK OK"), "the VM runs on")


def no_saved_form(report, lab):
    """QEMU dies when it is made to save one of these, and says so beforehand to who asks."""
    vm = lab.add_vm("vm3", memory=128, region=8, options=[
        "-drive if=none,id=none0,driver=null-co,size=1M,read-only=on -device nvme,serial=1,drive=none0"])
    lab.start_vm(vm, "hostA")
    qemu = lab.qemu("hostA", vm)
    for what in ("a guest that QEMU cannot save", "nor the next time"):
        report.refused(what, protect(lab, vm.name), "GuestUnsuitable")
    said = [c for c in lab.request("hostA", "check", vm="vm3")["checks"] if c["name"] == "VM vm3"]
    report.check(len(said) == 1 and not said[0]["ok"] and "nvme" in said[0]["detail"], "check says so, too, and names the device", said)
    report.check(lab.qemu("hostA", vm) == qemu and lab.ask(vm, "CHECK").startswith("CHECK OK"), "and the VM runs on")
    lab.mcctl("hostA", "stop", "vm3", "--force")


def main(report, cluster):
    lab, vm = cluster.up(protect=False)
    client = lab.start_client(vm)
    client.wait_acked(10)
    traced_by_another(report, lab, vm)
    silent_qmp(report, lab, vm)
    client.wait_acked(10)
    too_big(report, lab)
    no_saved_form(report, lab)
    no_tracking(report, lab)
    client.wait_acked(10)
    report.client(client.stop())
    dead(report, lab, vm)


if __name__ == "__main__":
    run(main)
