# SPDX-License-Identifier: GPL-2.0-or-later
"""The demo's guest: its QEMU command line, and looking at it behind mcd's back."""
import json
import mmap
import os
import socket
import subprocess
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .proc import LabError, run

if TYPE_CHECKING:
    from .vmhost import AnyHost

PAGE = 4096


def make_image(build: str, agent: bool = False) -> tuple[str, str]:
    """(kernel, initrd) with the build's ftguest inside, and perhaps QEMU's guest agent; the first time it asks
    the Debian archive."""
    tool = os.path.join(os.path.dirname(__file__), "../../../tests/tools/mkinitramfs")
    out = run([tool] + ["--agent"] * agent + [os.path.join(build, "tests/tools/ftguest")], timeout=600)
    found = dict(line.split("=", 1) for line in out.splitlines())
    return found["KERNEL"], found["INITRD"]


class Disk:
    """A disk with an ext4 on it, where the guest keeps its requests.  kind: virtio-blk (dedicated iothread with
    iothread=True) or virtio-scsi."""

    def __init__(self, megabytes: int = 64, fmt: str = "raw", kind: str = "virtio-blk", iothread: bool = False,
                 durability: str | None = None, name: str = "vm1-disk0") -> None:
        self.bytes = megabytes << 20
        self.format = fmt
        self.kind = kind
        self.durability = durability
        self.name = name
        self.device = "/dev/vda" if kind == "virtio-blk" else "/dev/sda"
        thread = ",iothread=io0" if iothread else ""
        self.options = ["-object iothread,id=io0"] if iothread else []
        if kind == "virtio-blk":
            self.options.append("-device virtio-blk-pci,drive=disk0" + thread)
        else:
            self.options += ["-device virtio-scsi-pci,id=scsi0" + thread, "-device scsi-hd,bus=scsi0.0,drive=disk0"]

    def path(self, host: "AnyHost") -> str:
        return host.path("disks", self.name + ".img")

    def replica(self, host: "AnyHost") -> str:
        return self.path(host) if self.format == "raw" else self.path(host) + ".replica"

    def used(self, host: "AnyHost") -> str:
        """The file that QEMU writes to on that host: once there was a replica it is that."""
        return self.replica(host) if os.path.exists(self.replica(host)) else self.path(host)

    def make(self, host: "AnyHost") -> None:
        """An empty file system, on the host that the VM is first started on."""
        os.makedirs(host.path("disks"), exist_ok=True)
        raw = self.path(host) + (".raw" if self.format != "raw" else "")
        with open(raw, "wb") as f:
            f.truncate(self.bytes)
        run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", raw], timeout=60)
        if self.format != "raw":
            run(["qemu-img", "convert", "-f", "raw", "-O", self.format, raw, self.path(host)], timeout=60)
            os.unlink(raw)

    def config(self) -> list[str]:
        lines = ["[disk disk0]", "image = /run/lab/disks/%s.img" % self.name]
        if self.format != "raw":
            lines.append("format = " + self.format)
        return lines + [""]


def copy_at_rest(image: str, copy: str) -> None:
    """Copies an image that nobody writes to meanwhile: the guest's file system does so by itself at times."""
    for _ in range(20):
        before = os.stat(image).st_mtime_ns
        run(["cp", "--sparse=always", image, copy], timeout=120)
        if os.stat(image).st_mtime_ns == before:
            return
    raise LabError("%s is written to all the time" % image)


class DiskLog:
    """What is on a raw image, looked at from outside on a copy: the file system's state and the requests."""

    def __init__(self, image: str, scratch: str) -> None:
        self.copy = os.path.join(scratch, "disk-copy.img")
        self.requests = os.path.join(scratch, "disk-requests")
        copy_at_rest(image, self.copy)
        # The journal first, as a mount would; then nothing may be left to repair.
        run(["e2fsck", "-p", self.copy], check=False, timeout=120)
        check = subprocess.run(["e2fsck", "-fn", self.copy], capture_output=True, text=True, timeout=120, check=False)
        self.clean = check.returncode == 0
        self.report = check.stdout + check.stderr
        run(["debugfs", "-R", "dump /requests %s" % self.requests, self.copy], timeout=60)
        self.chains: dict[int, str] = {}
        if not os.path.exists(self.requests):
            raise LabError("there is no /requests on %s: %s" % (image, self.report))
        with open(self.requests, encoding="ascii") as f:
            for line in f:
                if line.endswith("\n"):
                    n, _, chain = line.split()
                    self.chains[int(n)] = chain
        for path in (self.copy, self.requests):
            os.unlink(path)

    @property
    def last(self) -> int:
        return max(self.chains, default=0)


class Vm:
    """dirty: bytes written each 100 ms, in turn over `region` MB.  user: that QEMU runs as, a numeric uid:gid;
    agent: it has a guest agent, and this is the path of its socket in the host."""

    def __init__(self, name: str, image: tuple[str, str], number: int = 1, dirty: int = 0, region: int = 64,
                 memory: int = 256, delay: str | None = None, options: Iterable[str] = (), accel: str | None = None,
                 cpu: str | None = None, max_buffer: str | None = None, on_panic: str | None = None,
                 disk: Disk | None = None, user: str | None = None, agent: str | None = None,
                 pin_all: bool = False, hold_limit: str | None = None) -> None:
        self.name = name
        self.image = image
        self.dirty = dirty
        self.region = region
        self.memory = memory
        self.mac = "52:54:00:77:01:%02x" % number
        self.address = "10.77.1.%d" % number
        self.delay = delay
        self.max_buffer = max_buffer
        self.on_panic = on_panic
        self.options = list(options)
        self.cpu = cpu
        # A lab host runs whole scenarios under KVM so.
        self.accel = accel or os.environ.get("MCD_ACCEL") or "tcg"
        self.disk = disk
        self.user = user
        self.agent = agent
        self.pin_all = pin_all
        self.hold_limit = hold_limit

    def command(self) -> list[str]:
        """The command line that a user would have, a list of option groups; no netdev: that is mcd's."""
        kernel, initrd = self.image
        append = "console=ttyS0 quiet panic=-1 ft.ip=%s/16 ft.dirty=%d ft.period=100 ft.region=%d" % (
            self.address, self.dirty, self.region)
        if self.disk:
            append += " ft.disk=" + self.disk.device
        if self.agent:
            append += " ft.agent"
        panic = ["-device pvpanic"] if self.on_panic else []
        if panic:
            append += " ft.pvpanic"
        cpu = ["-cpu " + self.cpu] if self.cpu else []
        agent = ["-device virtio-serial-pci", "-chardev socket,id=qga0,path=%s,server=on,wait=off" % self.agent,
                 "-device virtserialport,chardev=qga0,name=org.qemu.guest_agent.0"] if self.agent else []
        return ["qemu-system-x86_64", "-accel %s" % self.accel, "-machine q35", "-m %dM" % self.memory,
                "-nodefaults -no-user-config -vga none -display none",
                "-kernel %s" % kernel, "-initrd %s" % initrd, '-append "%s"' % append,
                "-serial file:/run/lab/log/%s.serial" % self.name,
                # a socket of the administrator's own, beside those that mcd adds
                "-qmp unix:/run/lab/run/%s,server=on,wait=off" % self.qmp,
                "-device virtio-net-pci,netdev=net0,mac=%s" % self.mac] + cpu + agent + panic + self.options + \
            (self.disk.options if self.disk else [])

    @property
    def qmp(self) -> str:
        """The administrator's own QMP socket, below mcd's run-dir; where QEMU's user may make one."""
        return "%s/qemu/user.qmp" % self.name if self.user else "%s-user.qmp" % self.name

    def config(self) -> str:
        # One group a line: INI readers have a longest line.
        lines = ["[vm]", "command = " + "\n    ".join(self.command())]
        if self.delay:
            lines.append("delay = " + self.delay)
        if self.max_buffer:
            lines.append("max-buffer = " + self.max_buffer)
        if self.hold_limit:
            lines.append("hold-limit = " + self.hold_limit)
        if self.pin_all:
            lines.append("pin-all = yes")
        if self.on_panic:
            lines.append("on-panic = " + self.on_panic)
        if self.user:
            lines.append("user = " + self.user)
        if self.disk and self.disk.durability:
            lines.append("disk-durability = " + self.disk.durability)
        lines += ["", "[nic net0]", "bridge = br0", ""]
        return "\n".join(lines + (self.disk.config() if self.disk else []))

    def serial(self, host: "AnyHost") -> str:
        """What the guest has printed on that host's copy."""
        try:
            with open(host.path("log", self.name + ".serial"), encoding="latin1") as f:
                return f.read()
        except OSError:
            return ""


class Qmp:
    """A plain QMP session on the administrator's own socket of a VM."""

    def __init__(self, path: str, timeout: float = 10) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout)
        self.sock.connect(path)
        self._in = self.sock.makefile("rb")
        self.events: list[str] = []  # the names of those that came so far
        self._in.readline()
        self.command("qmp_capabilities")

    def command(self, execute: str, **arguments: Any) -> Any:
        self.sock.sendall(json.dumps({"execute": execute, "arguments": arguments}).encode() + b"\n")
        while True:
            line = self._in.readline()
            if not line:
                raise LabError("QEMU closed its QMP socket")
            answer = json.loads(line)
            if "event" in answer:
                self.events.append(answer["event"])
            if "error" in answer:
                raise LabError("%s: %s" % (execute, answer["error"].get("desc")))
            if "return" in answer:
                return answer["return"]

    def close(self) -> None:
        self._in.close()
        self.sock.close()

    def __enter__(self) -> "Qmp":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def user_qmp(host: "AnyHost", vm: Vm) -> Qmp:
    return Qmp(host.socket_path(vm.qmp))


def guest_memory(pid: int, smallest: int = 1 << 20) -> dict[int, list[str]]:
    """The memfds that back a QEMU's guest RAM, as {size: [path under /proc]}: the shared ones it maps."""
    mapped = set()
    with open("/proc/%d/maps" % pid, encoding="latin1") as f:
        for line in f:
            words = line.split(None, 5)
            if len(words) > 5 and words[5].startswith("/memfd:") and "s" in words[1]:
                mapped.add(int(words[4]))
    found: dict[int, list[str]] = {}
    for fd in sorted(os.listdir("/proc/%d/fd" % pid), key=int):
        path = "/proc/%d/fd/%s" % (pid, fd)
        try:
            if not os.readlink(path).startswith("/memfd:"):
                continue
            st = os.stat(path)
        except OSError:
            continue
        if st.st_ino in mapped and st.st_size >= smallest:
            mapped.discard(st.st_ino)  # the same memory may be open twice
            found.setdefault(st.st_size, []).append(path)
    return found


def compare_memory(pid_a: int, pid_b: int) -> tuple[int, list[tuple[int, int]]]:
    """(bytes compared, [(memfd size, page number)] of pages that differ)."""
    a, b = guest_memory(pid_a), guest_memory(pid_b)
    if not a:
        raise LabError("QEMU %d has no guest memory in a memfd" % pid_a)
    if {s: len(p) for s, p in a.items()} != {s: len(p) for s, p in b.items()}:
        raise LabError("the two QEMUs have different memories: %s and %s" % (a, b))
    total = 0
    differ: list[tuple[int, int]] = []
    for size, paths in a.items():
        for one, other in zip(paths, b[size]):
            with open(one, "rb") as f, open(other, "rb") as g, \
                    mmap.mmap(f.fileno(), size, prot=mmap.PROT_READ) as m, \
                    mmap.mmap(g.fileno(), size, prot=mmap.PROT_READ) as n:
                total += size
                for at in range(0, size, 1 << 20):
                    x, y = m[at:at + (1 << 20)], n[at:at + (1 << 20)]
                    if x != y:
                        differ += [(size, (at + i) // PAGE) for i in range(0, len(x), PAGE)
                                   if x[i:i + PAGE] != y[i:i + PAGE]]
    return total, differ


def why_not_booted(host: "AnyHost", pid: int | None, vm: Vm) -> str:
    """What a guest that does not come up is doing, for the error that says so."""
    found = ["serial: " + vm.serial(host)[-200:]]
    try:
        with user_qmp(host, vm) as qmp:
            found.append("status: %s" % qmp.command("query-status"))
            registers = qmp.command("human-monitor-command", **{"command-line": "info registers"})
            found += [line for line in registers.splitlines() if "RIP=" in line]
            found.append(qmp.command("human-monitor-command", **{"command-line": "info blockstats"}).strip())
    except (OSError, ValueError, LabError) as e:
        found.append("its QMP socket: %s" % e)
    for task in os.listdir("/proc/%d/task" % pid) if pid else ():
        lines = []
        for name in ("comm", "wchan", "syscall"):
            try:
                with open("/proc/%s/task/%s/%s" % (pid, task, name), encoding="ascii") as f:
                    lines.append(f.read().strip())
            except OSError:
                pass
        found.append("thread %s: %s" % (task, " ".join(lines)))
    return "; ".join(found)
