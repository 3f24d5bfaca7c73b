# SPDX-License-Identifier: GPL-2.0-or-later
# check: quick
"""Wrong requests get a clear error within 2 s, change nothing, and leave the running VM alone."""
import json
import os
import subprocess
import time

from mclab.control import Control
from mclab.proc import LabError
from mclab.scenario import run


def protect(lab, vm, peer="hostB", **options):
    args = ["protect", vm, "--peer", peer]
    for k, v in options.items():
        args += ["--" + k, v]
    return lambda: lab.mcctl("hostA", *args, timeout=20)


def names_and_numbers(report, lab):
    report.refused("an unknown VM", lambda: lab.mcctl("hostA", "status", "vm2"), "UnknownVm")
    report.refused("an unknown VM to protect", protect(lab, "vm11"), "UnknownVm")
    report.refused("an unknown peer", protect(lab, "vm1", "hostX"), "UnknownPeer")
    report.refused("this host as its own peer", protect(lab, "vm1", "hostA"), ("UnknownPeer", "InvalidArgument"))
    for delay in ("0ms", "500us", "11s", "1h", "100", "abc", "-5ms", ""):
        with Control(lab.hosts["hostA"].socket) as c:
            report.refused("protect with a delay of %r" % delay,
                           lambda c=c, d=delay: c.request("protect", vm="vm1", peer="hostB", delay=d), "InvalidArgument")
            report.refused("set with a delay of %r" % delay,
                           lambda c=c, d=delay: c.request("set", vm="vm1", delay=d), "InvalidArgument")
        report.refused("mcctl with a delay of %r" % delay, protect(lab, "vm1", delay=delay))


def control_requests(report, lab):
    """Each on a connection of its own, and mcd lives on."""
    path = lab.hosts["hostA"].socket
    cases = [("not JSON", b"hello\n"), ("not an object", b"[1,2]\n"), ("no execute", b'{"id":1}\n'),
             ("an unknown verb", b'{"id":1,"execute":"explode"}\n'),
             ("arguments of the wrong type", b'{"id":1,"execute":"status","arguments":7}\n'),
             ("an argument of the wrong type", b'{"id":1,"execute":"status","arguments":{"vm":7}}\n'),
             ("a missing argument", b'{"id":1,"execute":"start","arguments":{}}\n'),
             ("an unknown argument", b'{"id":1,"execute":"status","arguments":{"wm":"vm1"}}\n'),
             ("invalid UTF-8", b'{"id":1,"execute":"\xff\xfe"}\n'),
             ("too long a line", b'{"id":1,"execute":"' + b"x" * (4 << 20) + b'"}\n'),
             ("nested too deep", b"[" * 100000 + b"\n")]
    for what, data in cases:
        with Control(path) as c:
            start = time.monotonic()
            try:
                c.send_raw(data)
                answer = c.read_line()
            except (BrokenPipeError, ConnectionResetError):
                answer = None
            except (OSError, ValueError) as e:
                answer = {"wrong": str(e)}
            took = time.monotonic() - start
            hopeless = answer is None and len(data) > 4096  # then closing is an answer, too
            good = took < 2 and (hopeless or (answer and len(answer.get("error", {}).get("message", "")) > 5))
            report.check(good, "a control request that is wrong (%s) is answered with an error" % what,
                         (answer, took))
    report.check(lab.mcctl("hostA", "status")["host"] == "hostA", "the control socket still works")


def unsuitable_qemus(report, lab, image):
    base = ["qemu-system-x86_64 -accel tcg -machine q35 -nodefaults -no-user-config -vga none -display none",
            "-device virtio-net-pci,netdev=net0,mac=52:54:00:77:02:01"]
    nic = "\n[nic net0]\nbridge = br0\n"

    def start(*words, program=None):
        lines = [program] if program else base[:1] + list(words) + base[1:]
        lab.write_vm("hostA", "odd", "[vm]\ncommand = " + "\n    ".join(lines) + "\n" + nic)
        return lambda: lab.mcctl("hostA", "start", "odd", timeout=20)

    suitable = ("GuestUnsuitable", "ConfigError", "QemuError", "Failed", "NotEnoughMemory")
    report.refused("RAM that cannot be shared", start("-m 64M", "-mem-path /tmp"), suitable)
    report.refused("memory on huge pages", start(
        "-m 64M", "-object memory-backend-memfd,id=ram0,size=64M,hugetlb=on", "-machine memory-backend=ram0"), suitable)
    report.refused("hot-pluggable memory", start("-m 64M,slots=2,maxmem=1G"), suitable)
    report.refused("no memory size", start(), suitable)
    report.refused("-snapshot", start("-m 64M", "-snapshot"), suitable)
    report.refused("an option that QEMU does not know", start("-m 64M", "-nonsense"), suitable)
    report.refused("a program that is not there", start(program="/nonexistent/qemu -m 64M"), suitable)
    report.refused("a program that ends at once", start(program="/bin/false -m 64M -device x,netdev=net0"), suitable)
    report.check(lab.qemu("hostA", image) is not None, "vm1 still runs")
    os.unlink(lab.hosts["hostA"].path("etc/vms.d/odd.conf"))


def bad_configuration(report, lab):
    """`mcd --check` and a VM's file: file, line and the nearest known key."""
    h = lab.hosts["hostA"]
    lab.write_vm("hostA", "odd", "[vm]\ncomand = qemu-system-x86_64 -m 64M\n")
    try:
        lab.mcctl("hostA", "start", "odd")
        message = "accepted"
    except LabError as e:
        message = str(e)
    report.check("odd.conf:2" in message and "command" in message,
                 "a wrong key is reported with file, line and the nearest key", message)
    os.unlink(h.path("etc/vms.d/odd.conf"))


def strangers(report, lab):
    """Who cannot prove that he holds the key is not listened to."""
    program = r"""
import os, socket, sys
for data in (b"", b"GET / HTTP/1.0\r\n\r\n", os.urandom(4096), b"mcd-link" + bytes(248), b"mcd-link\0\1\1" + os.urandom(245)):
    s = socket.create_connection(("10.78.0.1", 7801), 2)
    s.settimeout(5)
    try:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        while s.recv(4096): pass
    except OSError: pass  # shown so early that there is nothing left to shut down
    s.close()
print("done")
"""
    out = lab.hosts["hostC"].run(["python3", "-c", program], timeout=60)
    report.check("done" in out, "strangers on the cluster port are shown the door")


def protected_twice(report, lab):
    report.refused("protect twice", protect(lab, "vm1"), "WrongState")
    report.refused("protect twice, by another peer", protect(lab, "vm1", "hostC"), ("WrongState", "UnknownVm"))
    report.refused("start twice", lambda: lab.mcctl("hostA", "start", "vm1"), ("WrongState", "NotOwner"))
    report.refused("start of a VM that another host owns", lambda: lab.mcctl("hostB", "start", "vm1"),
                   ("WrongState", "NotOwner"))


def peers(report, lab):
    """Peers with which nothing is to be had. The VM is unprotected at first."""
    lab.switch.isolate("hostB")
    report.refused("a peer that cannot be reached", protect(lab, "vm1"), "PeerUnreachable")
    lab.switch.rejoin("hostB")
    lab.wait_heard("hostA", "hostB")
    lab.stop_mcd("hostB")
    report.refused("a peer without mcd", protect(lab, "vm1"), "PeerUnreachable")

    key = lab.hosts["hostB"].path("etc/cluster.key")
    with open(key, encoding="ascii") as f:
        right = f.read()
    with open(key, "w", encoding="ascii") as f:
        f.write(os.urandom(64).hex() + "\n")
    lab.start_mcd("hostB")
    report.refused("a peer with another key", protect(lab, "vm1"), "WrongKey")
    lab.stop_mcd("hostB")
    with open(key, "w", encoding="ascii") as f:
        f.write(right)

    other_version = r"""
import socket
l = socket.create_server(("10.78.0.2", 7801))
print("ready", flush=True)
while True:
    s, _ = l.accept()
    s.recv(256)
    s.sendall(b"mcd-link" + bytes([0, 99, 4, 1, 0, 0, 0, 0]))
    s.close()
"""
    p = lab.hosts["hostB"].spawn(["python3", "-c", other_version], stdout=subprocess.PIPE, text=True)
    p.stdout.readline()
    report.refused("a peer of another version", protect(lab, "vm1"), "WrongVersion")
    lab.hosts["hostB"].kill9(lab.hosts["hostB"].inner(p))
    p.wait()
    p.stdout.close()
    lab.start_mcd("hostB")


def main(report, cluster):
    lab, vm = cluster.up(protect=False)
    client = lab.start_client(vm)
    client.wait_acked(10)
    qemu = lab.qemu("hostA", vm)
    names_and_numbers(report, lab)
    control_requests(report, lab)
    unsuitable_qemus(report, lab, vm)
    bad_configuration(report, lab)
    peers(report, lab)
    report.check(lab.status("hostA")["state"] == "unprotected", "after all that the VM is what it was",
                 json.dumps(lab.status("hostA")))
    lab.wait_heard("hostA", "hostB")
    lab.protect(vm, "hostA", "hostB")
    protected_twice(report, lab)
    names_and_numbers(report, lab)
    strangers(report, lab)
    report.check(lab.status("hostA")["state"] == "protected", "a protected VM stays protected",
                 json.dumps(lab.status("hostA")))
    report.check(lab.qemu("hostA", vm) == qemu, "its QEMU is the same all the time")
    report.client(client.stop())


if __name__ == "__main__":
    run(main)
