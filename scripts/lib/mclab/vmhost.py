# SPDX-License-Identifier: GPL-2.0-or-later
"""A lab host: a host.py host with a kernel of its own.

A QEMU (its emulator, TCG) that boots one of Debian's generic kernels on this machine's root file system, so
that everything installed and built here is there too.  Its network cards are taps on the switch's bridges,
beside the cables of the hosts that are namespaces.  What a host has outside of its kernel is the same for
both kinds (`/run/lab`, see host.py), and so is what the lab can do with them; commands go through an agent.

Modules of that kernel are loaded by labhost/bin/lab-rdma, lab-plug and lab-kvm, which are in its PATH.

One CPU is enough and safe.  While several run at once, QEMU 7.2 may keep a translation of an instruction that the
kernel was patching at that moment (a static branch), and the host dies of the int3 that stood there.  So more CPUs
than one take turns in one thread.
"""
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Union

from . import proc, remote
from .host import Host
from .proc import LabError, run, spawn
from .switch import MANAGEMENT
from .vm import Qmp

if TYPE_CHECKING:
    from .lab import Lab

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "labhost")
KERNELS = ("6.12", "6.1")
NICS = {"vm": "eth0", "cluster": "eth1", "beat": "eth2"}


def image(kernel: str) -> dict[str, str]:
    """What mkimage prints, as a dictionary; the first time it asks the Debian archive."""
    if kernel not in KERNELS:
        raise LabError("no lab host with a kernel %s: there are %s" % (kernel, " and ".join(KERNELS)))
    out = run([os.path.join(HERE, "mkimage"), kernel], timeout=900)
    return dict(line.split("=", 1) for line in out.splitlines())


def read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read()


def tsc_khz() -> str:
    """A kernel that boots on a busy machine may measure its clock several times too slow, and then believes that
    minutes pass in seconds.  Under emulation its clock is this machine's, whose rate is known here if it is constant."""
    if os.path.exists("/sys/devices/system/cpu/cpu0/cpufreq"):
        return ""
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as f:
        mhz = [line.split(":")[1] for line in f if line.startswith("cpu MHz")]
    return "tsc_early_khz=%d " % (float(mhz[0]) * 1000) if mhz else ""


class StoppedCpus:
    """What Freezer is to namespaces: QEMU gets no CPU time, and the host no interrupt."""

    def __init__(self, host: "VmHost") -> None:
        self._host = host

    def freeze(self) -> None:
        assert self._host.qemu
        os.kill(self._host.qemu.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._host.qemu
        os.kill(self._host.qemu.pid, signal.SIGCONT)


class VmHost:
    patience = 60

    def __init__(self, lab: "Lab", name: str, number: int, kernel: str = "6.12", memory: int = 1024, cpus: int = 1,
                 boot_timeout: float = 120, load: Iterable[str] = ()) -> None:
        self.lab = lab
        self.name = name
        self.number = number
        self.kernel = kernel
        self.memory = memory
        self.cpus = cpus
        self.boot_timeout = boot_timeout
        self.load = load
        self.dir = os.path.join(lab.dir, name)
        self.address = "10.78.0.%d" % number
        self.vm_address = "10.77.0.%d" % number
        self.beat_address = "10.79.0.%d" % number if lab.beat_network else None
        self.management_address: str = "10.76.0.%d" % number
        self.qemu: "subprocess.Popen[Any] | None" = None
        self.mcd: Any = None  # a remote.Process
        self.off_at: int | None = None
        self.clock: remote.Clock | None = None
        self.loading: tuple[remote.Process, str] | None = None
        self.freezer = StoppedCpus(self)
        self._relays: dict[str, remote.Relay] = {}
        self._outputs = 0
        self._image = image(kernel)
        self.networks = ["vm", "cluster"] + (["beat"] if self.beat_address else [])
        for d in ("etc/vms.d", "state", "log", "run"):
            os.makedirs(os.path.join(self.dir, d))
        for network in self.networks + [MANAGEMENT]:
            lab.switch.add_tap(network, name)

    # --- power ------------------------------------------------------------

    def _mac(self, network: str) -> str:
        return "02:4d:44:%02x:00:%02x" % ((self.networks + [MANAGEMENT]).index(network), self.number)

    def _write_environment(self) -> None:
        """For labhost/init, and for every command that runs in there."""
        with open(self.path("boot.env"), "w", encoding="ascii") as f:
            for key, value in {
                    "HOST": self.name, "NUMBER": self.number, "HOSTS": "'%s'" % " ".join(self.lab.hosts),
                    "ADDRESS": self.address, "VM_ADDRESS": self.vm_address,
                    "BEAT_ADDRESS": self.beat_address or "", "MANAGEMENT_ADDRESS": self.management_address,
                    "MANAGEMENT_IF": "eth%d" % len(self.networks), "AGENT_PORT": remote.PORT,
                    "MTU": self.lab.switch.mtu["cluster"], "KERNEL": self.kernel,
                    "BRIDGE_MAC": "02:4d:43:00:00:%02x" % self.number,
                    "ADDRESSES": "'%s'" % " ".join(h.address for h in self.lab.hosts.values())}.items():
                f.write("LAB_%s=%s\n" % (key, value))
        with open(os.path.join(self.lab.dir, "hosts"), "w", encoding="ascii") as f:
            f.writelines("%s %s\n" % (h.address, h.name) for h in self.lab.hosts.values())

    def _argv(self, fds: dict[str, int]) -> list[str]:
        kernel = "console=ttyS0 quiet panic=-1 net.ifnames=0 mitigations=off tsc=reliable no_timer_check " + tsc_khz() + \
            "lab.modules=%s lab.init=%s lab.host=%s" % (self._image["MODULES"], os.path.join(HERE, "init"), self.name)
        argv = ["qemu-system-x86_64", "-name", self.name, "-nodefaults", "-no-user-config", "-display", "none",
                "-no-reboot", "-M", "pc", "-accel", "tcg,thread=single", "-cpu", "max", "-smp", str(self.cpus),
                "-m", "%dM" % self.memory, "-kernel", self._image["KERNEL"], "-initrd", self._image["INITRD"],
                "-append", kernel, "-serial", "file:" + self.path("log/console"),
                "-qmp", "unix:%s,server=on,wait=off" % self.path("qmp.sock"),
                "-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap",
                "-device", "virtio-9p-pci,fsdev=root,mount_tag=root",
                "-fsdev", "local,id=lab,path=%s,security_model=none,multidevs=remap" % self.lab.dir,
                "-device", "virtio-9p-pci,fsdev=lab,mount_tag=lab"]
        for network, fd in fds.items():
            argv += ["-netdev", "tap,id=%s,fd=%d" % (network, fd), "-device", "virtio-net-pci,netdev=%s,mac=%s%s" % (
                network, self._mac(network), ",host_mtu=%d" % self.lab.switch.mtu[network]
                if network in self.lab.switch.mtu else "")]
        return argv

    @property
    def up(self) -> bool:
        return self.qemu is not None and self.qemu.poll() is None

    def alive(self) -> bool:
        """For those who wait for an answer from in there."""
        return self.up

    def boot(self) -> None:
        """Switches it on; wait_booted() waits until commands can be run."""
        if self.up:
            raise LabError("%s is running already" % self.name)
        for r in self._relays.values():
            r.close()
        self._relays = {}
        shutil.rmtree(self.path("run"))
        os.mkdir(self.path("run"))
        for left in ("booted", "qmp.sock"):
            if os.path.lexists(self.path(left)):
                os.unlink(self.path(left))
        self._write_environment()
        self.lab.switch.links(self.name, True)
        fds = {}
        try:
            for network in self.networks + [MANAGEMENT]:
                fds[network] = self.lab.switch.open_tap(network, self.name)
            with open(self.path("log/qemu.log"), "a", encoding="ascii") as log:
                self.qemu = spawn(self._argv(fds), pass_fds=list(fds.values()), stdout=log, stderr=log)
        finally:
            for fd in fds.values():
                os.close(fd)
        self.off_at = None

    def wait_booted(self) -> None:
        def booted() -> bool:
            if not self.up:
                raise LabError("%s ended while it booted: %s" % (self.name, self.last_words()))
            return os.path.exists(self.path("booted"))
        proc.wait_for(booted, self.boot_timeout, lambda: "%s boots: %s" % (self.name, self.last_words()), 0.05)
        self.clock = remote.Clock(self)
        self.loading = self.start(["bash", "-ec", "; ".join("lab-" + name for name in self.load)])

    def wait_loaded(self) -> None:
        """Until the modules that it was to load are there."""
        assert self.loading
        self.finish(self.loading, 120)

    def last_words(self) -> str:
        words = "".join(read(self.path(name)) for name in ("log/qemu.log", "log/console") if os.path.exists(self.path(name)))
        return " | ".join(words.strip().splitlines()[-4:]) or "it said nothing"

    def poweroff(self) -> int:
        """The cables first, then the power. Returns the moment it began."""
        at = proc.now()
        self.lab.switch.links(self.name, False)
        assert self.qemu
        self.qemu.kill()
        self.off_at = at
        for r in self._relays.values():
            r.hang_up()
        return at

    def gone(self) -> None:
        if self.qemu is not None:
            self.qemu.wait(10)
        if self.mcd is not None:
            self.mcd.wait(10)
        if self.clock is not None:
            self.clock.close()
        self.qemu = self.mcd = self.clock = None

    def close(self) -> None:
        if self.qemu is not None and self.qemu.poll() is None:
            self.qemu.kill()
            self.qemu.wait()
        for r in self._relays.values():
            r.close()
        if self.clock is not None:
            self.clock.close()

    def carrier(self, network: str, up: bool) -> None:
        """Pulls or puts in a cable so that the host itself sees it; ports of the switch do not show that."""
        with Qmp(self.path("qmp.sock")) as q:
            q.command("set_link", name=network, up=up)

    # --- what runs there --------------------------------------------------

    def path(self, *parts: str) -> str:
        """A file of the host, as seen from outside."""
        return os.path.join(self.dir, *parts)

    def socket_path(self, name: str) -> str:
        """A unix socket below run/, as it can be connected to from outside."""
        if name not in self._relays:
            self._relays[name] = remote.Relay(self, self.path("run", name), "/run/lab/run/" + name)
        return self._relays[name].path

    @property
    def socket(self) -> str:
        return self.socket_path("control.sock")

    def here(self, ns: int) -> int:
        """A time of the host's CLOCK_MONOTONIC as one of ours."""
        return self.clock.here(ns) if self.clock else ns

    def _inside(self, file: Any) -> str | None:
        """The name in there of an open file of the host, None for /dev/null."""
        if file in (None, subprocess.DEVNULL):
            return None
        name = os.path.realpath(file.name)
        top = os.path.realpath(self.lab.dir)
        if not name.startswith(top + "/"):
            raise LabError("what a command on %s prints can only go to a file of the lab, not to %s" % (self.name, name))
        return "/run/mclab" + name[len(top):]

    def spawn(self, command: Iterable[Any], stdout: Any = None, stderr: Any = None, env: dict[str, str] | None = None,
              cwd: str | None = None) -> remote.Process:
        """Starts a command; stdout and stderr are files below the lab's directory, appended to."""
        if not self.up:
            raise LabError("%s is off" % self.name)
        err = stdout if stderr == subprocess.STDOUT else stderr
        return remote.Process(self, command, env=env, cwd=cwd, stdout=self._inside(stdout), stderr=self._inside(err))

    def start(self, command: Iterable[Any], env: dict[str, str] | None = None,
              cwd: str | None = None) -> tuple[remote.Process, str]:
        """Starts a command whose output finish() returns."""
        self._outputs += 1
        base = self.path("log", "run-%d" % self._outputs)
        with open(base + ".out", "a", encoding="ascii") as out, open(base + ".err", "a", encoding="ascii") as err:
            return self.spawn(command, out, err, env, cwd), base

    def finish(self, started: tuple[remote.Process, str], timeout: float, check: bool = True) -> str:
        """Waits for the end of a command; stdout as text."""
        process, base = started
        try:
            status = process.wait(timeout)
            text, said = map(read, (base + ".out", base + ".err"))
        except subprocess.TimeoutExpired:
            process.kill()
            raise LabError("%s did not end within %d s on %s" % (
                " ".join(process.args[:4]), timeout, self.name)) from None
        finally:
            for name in (base + ".out", base + ".err"):
                os.unlink(name)
        if check and status:
            raise LabError("%s on %s: %s" % (" ".join(process.args), self.name, (said or text).strip() or status))
        return text

    def run(self, command: Iterable[Any], check: bool = True, timeout: float = 30, env: dict[str, str] | None = None,
            cwd: str | None = None) -> str:
        """Runs a command to its end; stdout as text."""
        return self.finish(self.start(command, env, cwd), timeout, check)

    @staticmethod
    def inner(process: Any) -> int:
        return process.pid

    def terminate(self, process: Any) -> None:
        process.terminate()

    def pids(self, comm: str) -> list[int]:
        """Pids, as they are in there, of the processes of that name."""
        return sorted(pid for pid, _ in self.commands(comm))

    def commands(self, comm: str) -> list[tuple[int, str]]:
        """(pid, command line) of the processes of that name."""
        if not self.up:
            return []
        return [(p, line) for p, name, line in remote.ask(self, do="ps")["processes"] if name == comm[:15]]

    def kill9(self, pid: int) -> None:
        """Kills one process of the host and waits until it is gone."""
        remote.ask(self, do="kill", pid=pid, signal=int(signal.SIGKILL))


AnyHost = Union[Host, VmHost]
