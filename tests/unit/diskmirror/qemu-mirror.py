#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""qemu-mirror.py MIRRORHOST - the disk mirror against stock QEMU: qemu-img as a client, and blockdev-mirror
in write-blocking mode of a (never booted) machine that is written to through its device."""
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

MIB = 1 << 20
SIZE = 24 * MIB
BUDGET = 4 * MIB


class Host:
    """Both sides of the mirror; files stay in its directory."""

    def __init__(self, directory, stall_ms=20000, size=SIZE):
        self.dir = directory
        self.process = subprocess.Popen(
            [sys.argv[1], directory, str(BUDGET), str(stall_ms), f"disk={size}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        assert self.process.stdout.readline() == "ready\n", "mirrorhost did not start"

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        return self.process.stdout.readline().strip()

    def ok(self, line):
        answer = self.ask(line)
        assert answer.startswith("ok"), f"{line}: {answer}"
        return answer

    def stats(self):
        return {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", self.ok("stats"))}

    def wait_table(self):
        """What is not described yet would be sent."""
        until = time.monotonic() + 20
        while self.stats()["said"] < SIZE // 65536 * 16:
            assert time.monotonic() < until, "the standby sends no table"
            time.sleep(0.01)

    def epoch(self, n):
        self.ok(f"barrier {n}")
        self.ok(f"end {n} {n % 2}")
        self.ok(f"commit {n}")

    def replica(self):
        with open(f"{self.dir}/disk.raw", "rb") as f:
            return f.read()

    def close(self):
        if self.process.poll() is None:
            self.process.stdin.write("quit\n")
            self.process.stdin.close()
            assert self.process.wait(20) == 0


class Nbdkit:
    """A foreign server and client between QEMU and ours, with faults of its own."""

    def __init__(self, directory, *words):
        self.socket = f"{directory}/kit.sock"
        self.process = subprocess.Popen(["nbdkit", "-f", "-U", self.socket, *words[:-1], "nbd",
                                         f"socket={directory}/nbd.sock", "export=disk", *words[-1]])
        until = time.monotonic() + 10
        while not os.path.exists(self.socket):
            assert self.process.poll() is None and time.monotonic() < until, "nbdkit does not start"
            time.sleep(0.01)

    def close(self):
        self.process.terminate()
        self.process.wait(10)


class Qemu:
    def __init__(self, image, fmt, directory):
        path = f"{directory}/qmp.sock"
        self.said, self.writes = tempfile.TemporaryFile(), 0
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(1)
            listener.settimeout(30)
            self.process = subprocess.Popen(
                ["qemu-system-x86_64", "-accel", "tcg", "-m", "64", "-nodefaults", "-display", "none",
                 "-boot", "strict=on", "-qmp", f"unix:{path}",
                 "-blockdev", f"driver=file,node-name=file0,filename={image}",
                 "-blockdev", f"driver={fmt},node-name=disk0,file=file0",
                 "-device", "ide-hd,drive=disk0,id=hd0"], stdout=self.said)
            self.sock = listener.accept()[0]
        os.unlink(path)
        self.sock.settimeout(60)
        self.lines = self.sock.makefile("r")
        self.events = []
        assert "QMP" in self.line()
        self.run("qmp_capabilities")

    def line(self):
        return json.loads(self.lines.readline())

    def run(self, command, **arguments):
        self.sock.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while "return" not in (answer := self.line()):
            assert "error" not in answer, f"{command}: {answer}"
            self.events.append(answer)
        return answer["return"]

    def wait(self, event):
        while not (found := [e for e in self.events if e["event"] == event]):
            self.events.append(self.line())
        self.events.remove(found[0])
        return found[0]["data"]

    def write(self, *commands):
        for command in commands:
            said = self.run("human-monitor-command", **{"command-line": f'qemu-io -d hd0 "{command}"'})
            assert not said, f"{command}: {said}"
            self.writes += command.startswith("write")

    def mirror(self, nbd):
        self.run("blockdev-add", **{"driver": "nbd", "node-name": "ftnbd", "export": "disk",
                                    "server": {"type": "unix", "path": nbd}})
        self.run("blockdev-mirror", **{"job-id": "ft0", "device": "disk0", "target": "ftnbd", "sync": "full",
                                       "copy-mode": "write-blocking", "on-target-error": "report"})

    def close(self):
        """Ends it, and looks at what qemu-io printed: what became of each write."""
        self.sock.sendall(b'{"execute": "quit"}\n')
        try:
            self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()
            self.sock.close()
        self.said.seek(0)
        said = self.said.read().decode()
        assert said.count("wrote ") == self.writes, f"{self.writes} writes: {said}"


def random_writes(rng, n):
    for _ in range(n):
        at = rng.randrange(0, SIZE - MIB, 512)
        length = rng.choice([512, 4096, 65536, 200 * 1024, MIB])
        kind = rng.choice(["write -P 0x%02x" % rng.randrange(1, 256)] * 4 + ["write -z", "write -z -u"])
        yield f"{kind} {at} {length}"


def image_with_holes(path):
    rng = random.Random(1)
    with open(path, "wb") as f:
        f.truncate(SIZE)
        for at in range(0, SIZE, 4 * MIB):
            f.seek(at)
            f.write(rng.randbytes(MIB + 512))


def content(path, fmt):
    if fmt == "raw":
        with open(path, "rb") as f:
            return f.read()
    out = path + ".flat"
    subprocess.run(["qemu-img", "convert", "-U", "-O", "raw", path, out], check=True)
    return content(out, "raw")


def qemu_img_copies_an_image(directory):
    source = f"{directory}/source.raw"
    image_with_holes(source)
    host = Host(directory)
    url = f"nbd+unix:///disk?socket={directory}/nbd.sock"
    info = json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", url]))
    assert info["virtual-size"] == SIZE, info
    subprocess.run(["qemu-img", "convert", "-n", "-O", "raw", source, url], check=True)
    host.ok("begin 1")
    host.epoch(1)
    assert host.replica() == content(source, "raw")
    # The standby answers what QEMU reads.
    subprocess.run(["qemu-img", "compare", source, url], check=True, stdout=subprocess.DEVNULL)
    host.ok("status")
    host.close()


def each_epoch_of_a_mirrored_disk_is_on_the_standby(directory, fmt, slow=False):
    image, rng = f"{directory}/image.{fmt}", random.Random(7)
    subprocess.run(["qemu-img", "create", "-q", "-f", fmt, image, str(SIZE)], check=True)
    host, qemu, kit = Host(directory), None, None
    try:
        qemu = Qemu(image, fmt, directory)
        qemu.write(*random_writes(rng, 20))
        if slow:
            kit = Nbdkit(directory, "--filter=delay", ["wdelay=5ms"])
        qemu.mirror(kit.socket if kit else f"{directory}/nbd.sock")
        qemu.write(*random_writes(rng, 10))
        assert qemu.wait("BLOCK_JOB_READY")["device"] == "ft0"
        qemu.run("stop")
        host.ok("begin 1")
        host.epoch(1)
        for n in range(2, 12):
            qemu.run("cont")
            qemu.write(*random_writes(rng, 8))
            qemu.run("stop")
            host.epoch(n)
            if n % 5 == 1:
                qemu.write("flush")
                assert host.replica() == content(image, fmt), f"epoch {n} differs"
        # What is not committed must not be there.
        before = host.replica()
        qemu.run("cont")
        qemu.write("write -P 0xee 0 1M")
        host.ok("take")
        assert host.replica() == before
    finally:
        if qemu:
            qemu.close()
        if kit:
            kit.close()
        host.close()


def a_write_that_fails_on_its_way_ends_the_job_and_not_the_guest(directory):
    image, trigger, rng = f"{directory}/image.raw", f"{directory}/fail", random.Random(5)
    image_with_holes(image)
    host, qemu, kit = Host(directory), None, None
    try:
        qemu = Qemu(image, "raw", directory)
        kit = Nbdkit(directory, "--filter=error", ["error-pwrite=EIO", "error-pwrite-rate=100%", f"error-file={trigger}"])
        qemu.mirror(kit.socket)
        qemu.wait("BLOCK_JOB_READY")
        host.ok("begin 1")
        qemu.run("stop")
        host.epoch(1)
        qemu.run("cont")
        open(trigger, "w").close()
        qemu.write(*random_writes(rng, 8))
        assert "error" in qemu.wait("BLOCK_JOB_COMPLETED")
        # This is what mcd looks at before each COMMIT: our server was not told.
        assert qemu.run("query-block-jobs") == []
        qemu.write("write -P 0x11 0 64k")  # the guest goes on
    finally:
        if qemu:
            qemu.close()
        if kit:
            kit.close()
        host.close()


def a_stall_lets_the_guest_go_on_and_a_resync_sends_what_changed(directory):
    image = f"{directory}/image.raw"
    image_with_holes(image)
    host, qemu = Host(directory, stall_ms=500), None
    try:
        qemu = Qemu(image, "raw", directory)
        qemu.mirror(f"{directory}/nbd.sock")
        qemu.wait("BLOCK_JOB_READY")
        host.ok("begin 1")
        qemu.run("stop")
        host.epoch(1)
        host.ok("trusted")
        qemu.run("cont")
        host.ok("freeze")
        start = time.monotonic()
        qemu.write(*[f"write -P 0x77 {i * MIB} 1M" for i in range(16)])
        took = time.monotonic() - start
        assert took < 20, f"the guest's writes took {took:.1f} s"
        assert "error" in qemu.wait("BLOCK_JOB_COMPLETED")
        assert host.ask("status").startswith("error Timeout"), host.ask("status")
        assert host.stats()["broken"] == 1
        qemu.run("stop")  # does not hang either
        qemu.run("cont")
        host.close()
        qemu.run("blockdev-del", **{"node-name": "ftnbd"})

        qemu.write("write -P 0x31 20M 100k")
        host = Host(directory)
        host.wait_table()
        qemu.mirror(f"{directory}/nbd.sock")
        qemu.wait("BLOCK_JOB_READY")
        qemu.run("stop")
        host.ok("begin 1")
        host.epoch(1)
        qemu.write("flush")
        assert host.replica() == content(image, "raw")
        stats = host.stats()
        assert stats["skipped"] > 4 * MIB, stats
        assert stats["sent"] < 18 * MIB, stats
    finally:
        if qemu:
            qemu.close()
        host.close()


def main():
    for tool in ("qemu-img", "qemu-system-x86_64", "nbdkit"):
        if not shutil.which(tool):
            print(f"skipped: {tool} is not installed (scripts/bootstrap does that)")
            return 77
    for test, arguments in ((qemu_img_copies_an_image, ()),
                            (each_epoch_of_a_mirrored_disk_is_on_the_standby, ("raw",)),
                            (each_epoch_of_a_mirrored_disk_is_on_the_standby, ("qcow2",)),
                            (each_epoch_of_a_mirrored_disk_is_on_the_standby, ("raw", True)),
                            (a_write_that_fails_on_its_way_ends_the_job_and_not_the_guest, ()),
                            (a_stall_lets_the_guest_go_on_and_a_resync_sends_what_changed, ())):
        with tempfile.TemporaryDirectory(prefix="qemu-mirror.") as directory:
            start = time.monotonic()
            test(directory, *arguments)
            print(f"ok {test.__name__} {' '.join(map(str, arguments))} ({time.monotonic() - start:.1f} s)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
