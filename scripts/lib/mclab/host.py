# SPDX-License-Identifier: GPL-2.0-or-later
"""A host: network, mount, pid, ipc and uts namespaces around a pid 1 of its own.

Killing that pid 1 kills every process of the host at once, which is what a power cut looks like to
everybody else.  In the host /run is private, and /run/lab is the host's directory of the lab:

    /run/lab/etc     mcd.conf, vms.d/, cluster.key      survives a power cut
    /run/lab/state   mcd's state-dir                    survives a power cut
    /run/lab/log     logs, the guests' serial consoles  survives a power cut
    /run/lab/run     mcd's run-dir                      emptied by boot()

mcd's sockets are reached from outside through the lab's directory.
"""
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from . import proc
from .freezer import Freezer
from .proc import LabError, run, spawn
from .switch import quiet

if TYPE_CHECKING:
    from .lab import Lab

INIT = r"""
set -e
hostname "$2"
mount -t proc proc /proc
mount -t tmpfs -o mode=755 run /run
mkdir /run/cgroup
mount --rbind /sys/fs/cgroup /run/cgroup
mount -t sysfs sys /sys
mount --rbind /run/cgroup /sys/fs/cgroup
umount -l /run/cgroup
mount -t tmpfs -o mode=1777 shm /dev/shm
mkdir /run/lab /run/lock
mount --bind "$1" /run/lab
echo ready
exec </dev/null >/dev/null 2>&1
set +e
while :; do sleep 3600 & wait $!; done
"""


class Host:
    patience = 10  # seconds that are enough for a program to start

    def __init__(self, lab: "Lab", name: str, number: int) -> None:
        self.lab = lab
        self.name = name
        self.number = number
        self.ns = "%s-%s" % (lab.prefix, name)
        self.dir = os.path.join(lab.dir, name)
        self.address = "10.78.0.%d" % number     # mcd's
        self.vm_address = "10.77.0.%d" % number  # on br0
        self.beat_address = "10.79.0.%d" % number if lab.beat_network else None
        self.init: int | None = None  # pid 1 as seen from outside
        self.mcd: Any = None          # the nsenter around mcd, a Popen
        self.off_at: int | None = None
        self._unshare: "subprocess.Popen[str] | None" = None
        self.freezer = Freezer(self.ns)
        for d in ("etc/vms.d", "state", "log", "run"):
            os.makedirs(os.path.join(self.dir, d))
        self._network()

    def _network(self) -> None:
        run(["ip", "netns", "add", self.ns])
        quiet(self.ns)
        self.lab.switch.plug_in("vm", self.name, self.ns, "eth0")
        self.lab.switch.plug_in("cluster", self.name, self.ns, "eth1")
        run(["ip", "-n", self.ns, "-batch", "-"], stdin="\n".join([
            "link set lo up",
            "link add br0 type bridge forward_delay 0 mcast_snooping 0",
            # Fixed, or every tap that joins could change it under the feet of those who know it.
            "link set br0 address 02:4d:43:00:00:%02x" % self.number,
            "link set eth0 master br0 up",
            "link set br0 up",
            "addr add %s/16 dev br0" % self.vm_address,
            "link set eth1 up",
            "addr add %s/24 dev eth1" % self.address]) + "\n")
        if self.beat_address:
            self.lab.switch.plug_in("beat", self.name, self.ns, "eth2")
            run(["ip", "-n", self.ns, "-batch", "-"], stdin="\n".join([
                "link set eth2 up", "addr add %s/24 dev eth2" % self.beat_address]) + "\n")

    def path(self, *parts: str) -> str:
        """A file of the host, as seen from outside."""
        return os.path.join(self.dir, *parts)

    def socket_path(self, name: str) -> str:
        """A unix socket below run/, as it can be connected to from outside."""
        return self.path("run", name)

    @property
    def socket(self) -> str:
        return self.socket_path("control.sock")

    @property
    def up(self) -> bool:
        return self.init is not None and proc.alive(self.init)

    def boot(self) -> None:
        if self.up:
            raise LabError("%s is running already" % self.name)
        shutil.rmtree(self.path("run"), ignore_errors=True)
        os.mkdir(self.path("run"))
        self.lab.switch.links(self.name, True)
        self._unshare = spawn(
            ["nsenter", "--net=/run/netns/" + self.ns, "--", "unshare", "-m", "-u", "-i", "-p", "--fork",
             "--kill-child=KILL", "--propagation", "private", "bash", "-c", INIT, "init", self.dir, self.name],
            cgroup=self.freezer.procs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self._unshare.stdout and self._unshare.stderr
        if self._unshare.stdout.readline().strip() != "ready":
            raise LabError("%s does not boot: %s" % (self.name, self._unshare.stderr.read().strip()))
        self.init = proc.children(self._unshare.pid)[0]
        self.off_at = None

    def wait_booted(self) -> None:
        """boot() has waited already; that of a lab host has not."""

    def wait_loaded(self) -> None:
        """Nor has it modules to load."""

    @staticmethod
    def here(ns: int) -> int:
        """A time of the host's CLOCK_MONOTONIC as one of ours: the same."""
        return ns

    def argv(self, command: Iterable[str]) -> list[str]:
        return ["nsenter", "-t", str(self.init), "-m", "-u", "-i", "-n", "-p", "--"] + list(command)

    def spawn(self, command: Iterable[str], **kwargs: Any) -> "subprocess.Popen[Any]":
        """Starts a command in the host; the Popen is that of nsenter (see inner)."""
        if not self.up:
            raise LabError("%s is off" % self.name)
        return spawn(self.argv(command), cgroup=self.freezer.procs, **kwargs)

    def run(self, command: Iterable[str], **kwargs: Any) -> str:
        return run(self.argv(command), **kwargs)

    @staticmethod
    def inner(process: Any) -> int:
        """The pid of the command itself."""
        return proc.wait_for(lambda: proc.children(process.pid), 2, "nsenter's child")[0]

    def pids(self, comm: str) -> list[int]:
        """Pids, as seen from outside, of the host's processes of that name."""
        if self.init is None:
            return []
        try:
            mine = os.readlink("/proc/%d/ns/pid" % self.init)
        except OSError:
            return []
        found = []
        for pid, name in proc.processes():
            try:
                if name == comm[:15] and os.readlink("/proc/%d/ns/pid" % pid) == mine:
                    found.append(pid)
            except OSError:
                continue
        return sorted(found)

    def commands(self, comm: str) -> list[tuple[int, str]]:
        """(pid, command line) of the processes of that name."""
        found = []
        for pid in self.pids(comm):
            try:
                with open("/proc/%d/cmdline" % pid, encoding="latin1") as f:
                    found.append((pid, f.read().replace("\0", " ")))
            except OSError:
                continue
        return found

    @staticmethod
    def terminate(process: Any) -> None:
        """SIGTERM to the command itself."""
        for pid in proc.children(process.pid):
            os.kill(pid, signal.SIGTERM)

    def kill9(self, pid: int) -> None:
        """Kills one process of the host and waits until it is gone."""
        os.kill(pid, signal.SIGKILL)
        proc.wait_for(lambda: not proc.alive(pid), 5, "process %d dead" % pid, 0.001)

    def poweroff(self) -> int:
        """The network cables first, then everything that runs. Returns the moment it began."""
        at = proc.now()
        self.lab.switch.links(self.name, False)
        assert self.init is not None
        os.kill(self.init, signal.SIGKILL)
        self.off_at = at
        return at

    def gone(self) -> None:
        """Waits until the last process of a host that was powered off is buried."""
        if self._unshare is not None:
            try:
                self._unshare.wait(10)
            except subprocess.TimeoutExpired:
                raise LabError("%s does not die" % self.name) from None
        if self.mcd is not None:
            self.mcd.wait(10)
        self.init = self._unshare = self.mcd = None

    def close(self) -> None:
        try:
            self.freezer.thaw()
        except (LabError, OSError):
            pass
        if self.init is not None and self.up:
            os.kill(self.init, signal.SIGKILL)
        for p in (self._unshare, self.mcd):
            if p is not None and p.poll() is None:
                p.kill()
                p.wait()
        self.freezer.close()
        run(["ip", "netns", "del", self.ns], check=False)
