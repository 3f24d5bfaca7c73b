# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab as a whole: makes everything, removes everything."""
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

from . import proc
from .client import Client, FrameWatch, ask
from .control import Control, Events, Json, mcctl
from .host import Host
from .proc import LabError, run
from .sweep import PREFIX, claim, sweep
from .switch import Switch, quiet
from .vm import Vm, make_image, why_not_booted
from .vmhost import AnyHost, VmHost

SANITIZER = re.compile(r"(ERROR: (Address|Leak)Sanitizer|runtime error:).*")


def interrupted(signum: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)


def exit_status(name: str, run: Callable[[], int]) -> int:
    """Of a program that makes a lab: what run() returns; 2 when it could not be done, 130 when interrupted."""
    try:
        return run()
    except LabError as e:
        print("%s: %s" % (name, e), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\n%s: interrupted, everything is removed" % name, file=sys.stderr)
        return 130


class Lab:
    switch: Switch  # from __enter__ on
    dir = ""
    client_ns = ""

    def __init__(self, build: str, keep: bool = False, keepalive: str = "50ms", misses: int = 5, delay: str = "100ms",
                 log_level: str = "info", on_event: Callable[[Json], object] | None = None, beat_network: bool = False,
                 mcd: str = "mcd/mcd", mtu: int = 1500) -> None:
        if os.geteuid() != 0:
            raise LabError("the lab makes network namespaces: run it as root")
        self.build = os.path.abspath(build)
        self.keep = keep
        self.log_level = log_level
        self.keepalive = keepalive
        self.misses = misses
        self.delay = delay
        self.on_event = on_event
        self.beat_network = beat_network
        self.mcd = mcd
        self.mtu = mtu
        self.prefix = "%s%d" % (PREFIX, os.getpid())
        self.hosts: dict[str, AnyHost] = {}
        self.events: dict[str, Events] = {}
        self.vms: dict[str, Vm] = {}
        self._clients: list[Client | FrameWatch] = []
        self._images: dict[bool, tuple[str, str]] = {}

    # --- life -------------------------------------------------------------

    def __enter__(self) -> "Lab":
        for s in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(s, interrupted)
        # A shell starts background jobs with SIGINT ignored; we are to be stoppable all the same.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            sweep()
            self.dir = tempfile.mkdtemp(prefix="mcd-lab.", dir="/tmp")
            claim(self.dir)
            self.switch = Switch(self.prefix, self.mtu)
            self.client_ns = self.prefix + "-client"
            run(["ip", "netns", "add", self.client_ns])
            quiet(self.client_ns)
            self.switch.plug_in("vm", "client", self.client_ns, "eth0")
            run(["ip", "-n", self.client_ns, "-batch", "-"], stdin="\n".join(
                ["link set lo up", "link set eth0 up", "addr add 10.77.0.100/16 dev eth0"]) + "\n")
        except BaseException:
            self._close()  # __exit__ is not called when __enter__ fails
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, _value: object, _traceback: object) -> None:
        # An interrupted clean-up would leave what it is there to remove.
        old = [(s, signal.signal(s, signal.SIG_IGN)) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
        try:
            self._close(failed=kind is not None and not issubclass(kind, (KeyboardInterrupt, SystemExit)))
        finally:
            for s, handler in old:
                signal.signal(s, handler)

    def _close(self, failed: bool = False) -> None:
        for c in self._clients:
            c.close()
        for e in self.events.values():
            e.close()
        for h in self.hosts.values():
            h.close()
        if self.client_ns:
            run(["ip", "netns", "del", self.client_ns], check=False)
        if hasattr(self, "switch"):
            self.switch.close()
        if not self.dir:
            return
        if self.keep or failed:
            open(os.path.join(self.dir, "keep"), "w", encoding="ascii").close()
            print("lab: logs kept in %s" % self.dir, file=sys.stderr)
        else:
            shutil.rmtree(self.dir, ignore_errors=True)

    def tool(self, path: str) -> str:
        full = os.path.join(self.build, path)
        if not os.access(full, os.X_OK):
            raise LabError("%s is missing: build first (ninja -C %s)" % (full, self.build))
        return full

    # --- hosts and daemons ------------------------------------------------

    def add_hosts(self, *names: str, kernel: str | None = None, **options: Any) -> None:
        """Makes and boots hosts; all of them are voters, so add them all before start_mcd.  With a kernel
        (6.12 or 6.1) they are lab hosts, with VmHost's options; they know of those added before them."""
        new: list[AnyHost] = []
        for name in names:
            number = len(self.hosts) + 1
            h: AnyHost = VmHost(self, name, number, kernel, **options) if kernel else Host(self, name, number)
            self.hosts[name] = h
            new.append(h)
        for h in self.hosts.values():
            self.write_config(h.name)
        for h in new:
            h.boot()
        for h in new:
            h.wait_booted()
        for h in new:
            h.wait_loaded()

    def make_key(self) -> None:
        """One key for those hosts that have none; made the way an administrator makes it."""
        source = os.path.join(self.dir, "cluster.key")
        if not os.path.exists(source):
            run([self.tool("mcctl/mcctl"), "keygen", source])
        for h in self.hosts.values():
            if not os.path.exists(h.path("etc/cluster.key")):
                shutil.copy(source, h.path("etc/cluster.key"))  # with its mode

    def write_config(self, host: str, extra: str = "") -> None:
        lines = ["[mcd]", "name = " + host, "run-dir = /run/lab/run", "state-dir = /run/lab/state",
                 "vms-dir = /run/lab/etc/vms.d", "key-file = /run/lab/etc/cluster.key",
                 "keep-alive = " + self.keepalive, "keep-alive-misses = %d" % self.misses, extra]
        for h in self.hosts.values():
            lines += ["", "[host %s]" % h.name, "address = " + h.address]
            if h.beat_address:
                lines.append("keepalive-address = " + h.beat_address)
        lines += ["", "[defaults]", "delay = " + self.delay, ""]
        with open(self.hosts[host].path("etc/mcd.conf"), "w", encoding="ascii") as f:
            f.write("\n".join(lines))

    def start_mcd(self, *names: str, wait: bool = True, env: dict[str, str] | None = None) -> None:
        """Starts mcd on these hosts (default: all) and subscribes to its events."""
        more = env or {}
        asan = "detect_leaks=1:abort_on_error=0"
        if "LD_PRELOAD" in more:
            asan += ":verify_asan_link_order=0"
        program = self.tool(self.mcd)
        self.make_key()
        for name in names or self.hosts:
            h = self.hosts[name]
            env = dict(os.environ, ASAN_OPTIONS=asan, UBSAN_OPTIONS="print_stacktrace=1", **more)
            with open(h.path("log/mcd.log"), "a", encoding="ascii") as log:
                h.mcd = h.spawn([program, "--config", "/run/lab/etc/mcd.conf", "--log-level", self.log_level],
                                stdout=log, stderr=log, env=env)
        if wait:
            for name in names or self.hosts:
                self.wait_mcd(name)

    def wait_mcd(self, name: str, timeout: float | None = None) -> None:
        h = self.hosts[name]

        def answers() -> bool:
            if h.mcd.poll() is not None:
                raise LabError("mcd on %s ended (status %s): %s" % (name, h.mcd.returncode, self.log_tail(name)))
            try:
                Control(h.socket, 2).close()
                return True
            except LabError:
                return False
        proc.wait_for(answers, timeout or h.patience, "mcd on %s answers" % name)
        if name in self.events:
            self.events[name].close()
        self.events[name] = Events(self.tool("mcctl/mcctl"), h.socket, name,
                                   os.path.join(self.dir, "events-%s.json" % name), self.on_event, h.here)

    def stop_mcd(self, name: str, grace: float | None = None) -> None:
        """SIGTERM, as systemd would: its VMs live on."""
        h = self.hosts[name]
        if h.mcd is None or h.mcd.poll() is not None:
            return
        h.terminate(h.mcd)
        try:
            h.mcd.wait(grace or h.patience)
        except subprocess.TimeoutExpired:
            raise LabError("mcd on %s does not end on SIGTERM" % name) from None
        h.mcd = None

    def kill_mcd(self, name: str) -> None:
        h = self.hosts[name]
        h.kill9(h.inner(h.mcd))
        h.mcd.wait(10)
        h.mcd = None

    def log_tail(self, name: str, lines: int = 3) -> str:
        try:
            with open(self.hosts[name].path("log/mcd.log"), encoding="utf-8", errors="replace") as f:
                return " | ".join(f.read().splitlines()[-lines:])
        except OSError:
            return ""

    def sanitizer_reports(self) -> list[str]:
        """What the sanitizers had to say in the logs of the mcds."""
        found = []
        for path in glob.glob(os.path.join(self.dir, "*/log/mcd.log")):
            with open(path, encoding="utf-8", errors="replace") as f:
                found += ["%s: %s" % (path.split("/")[3], m[0]) for m in map(SANITIZER.search, f) if m]
        return found

    # --- talking to them --------------------------------------------------

    def mcctl(self, host: str, *args: object, timeout: float = 120) -> Json:
        return mcctl(self.tool("mcctl/mcctl"), self.hosts[host].socket, [str(a) for a in args], timeout)

    def request(self, host: str, execute: str, **arguments: Any) -> Any:
        """A request on the control socket itself, without mcctl's own checks."""
        with Control(self.hosts[host].socket) as c:
            return c.request(execute, **arguments)

    def status(self, host: str, vm: str = "vm1") -> Json:
        """The VM's part of `mcctl status` on that host, {} if it knows nothing of it."""
        v: Json
        for v in self.mcctl(host, "status").get("vms", []):
            if v["name"] == vm:
                return v
        return {}

    def wait_state(self, host: str, vm: str, state: str, timeout: float = 60) -> Json:
        def now() -> Json | None:
            v = self.status(host, vm)
            return v if v.get("state") == state else None
        return proc.wait_for(now, timeout, lambda: "%s is %s on %s instead of %s" % (
            vm, self.status(host, vm).get("state"), host, state), 0.1)

    def wait_heard(self, host: str, peer: str, timeout: float = 15) -> None:
        """Until the host hears the peer's keep-alives."""
        def heard() -> bool:
            return any(h["name"] == peer and h.get("keepalive", {}).get("up")
                       for h in self.mcctl(host, "status")["hosts"])
        proc.wait_for(heard, timeout, "%s hears %s" % (host, peer), 0.05)

    # --- VMs and clients --------------------------------------------------

    def add_vm(self, name: str, hosts: Iterable[str] | None = None, **options: Any) -> Vm:
        """Writes vms.d/NAME.conf on the hosts (default: the first two)."""
        agent = bool(options.get("agent"))
        if agent not in self._images:
            self._images[agent] = make_image(self.build, agent)
        vm = self.vms[name] = Vm(name, self._images[agent], number=10 + len(self.vms), **options)
        for h in hosts or list(self.hosts)[:2]:
            self.write_vm(h, name, vm.config())
        return vm

    def write_vm(self, host: str, name: str, text: str) -> None:
        with open(self.hosts[host].path("etc/vms.d", name + ".conf"), "w", encoding="ascii") as f:
            f.write(text)
        vm = self.vms.get(name)
        if vm and vm.user:  # QEMU opens it as that user
            serial = self.hosts[host].path("log", name + ".serial")
            open(serial, "a", encoding="ascii").close()
            os.chown(serial, *map(int, vm.user.split(":")))

    def start_vm(self, vm: Vm, host: str, boot_timeout: float = 60) -> Json:
        """Starts it and waits until the guest's service is there."""
        if vm.disk:
            for h in self.hosts.values():
                os.makedirs(h.path("disks"), exist_ok=True)
            if not os.path.exists(vm.disk.path(self.hosts[host])) and not os.path.exists(vm.disk.replica(self.hosts[host])):
                vm.disk.make(self.hosts[host])
        result = self.mcctl(host, "start", vm.name)
        self.wait_boot(vm, host, 0, boot_timeout)
        return result

    def boots(self, vm: Vm, host: str) -> int:
        """How often the guest has come up, as its QEMU on that host has heard."""
        return vm.serial(self.hosts[host]).count("READY")

    def wait_voters(self, host: str, n: int) -> None:
        """Until so many voters, itself among them, answer that host."""
        proc.wait_for(lambda: self.mcctl(host, "status")["voters"]["connected"] >= n, 15,
                      "%d voters at %s" % (n, host))

    def wait_boot(self, vm: Vm, host: str, before: int, timeout: float = 60) -> None:
        """Until it has come up once more than before."""
        proc.wait_for(lambda: self.boots(vm, host) > before, timeout,
                      lambda: "the guest boots: " + why_not_booted(self.hosts[host], self.qemu(host, vm), vm), 0.05)

    def protect(self, vm: Vm, host: str, peer: str, **options: str) -> Json:
        args = ["protect", vm.name, "--peer", peer]
        for k, v in options.items():
            args += ["--" + k, v]
        return self.mcctl(host, *args)

    def start_client(self, vm: Vm, **options: Any) -> Client:
        c = Client(self, vm, **options)
        self._clients.append(c)
        return c

    def watch(self, *vms: Vm, log: str | None = None) -> FrameWatch:
        w = FrameWatch(self, vms or self.vms.values(), log)
        self._clients.append(w)
        return w

    def ask(self, vm: Vm, line: str, timeout: float = 30) -> str:
        return ask(self, vm, line, timeout)

    def qemu(self, host: str, vm: Vm) -> int | None:
        """The pid of the VM's QEMU on that host (also of a waiting standby), or None."""
        for pid, line in self.hosts[host].commands("qemu-system-x86_64"):
            if "mac=" + vm.mac in line:
                return pid
        return None

    # --- faults -----------------------------------------------------------

    def poweroff(self, host: str) -> int:
        return self.hosts[host].poweroff()

    def boot(self, host: str) -> None:
        """Brings a powered-off host back, with its disks as they were, and starts mcd."""
        self.hosts[host].gone()
        self.hosts[host].boot()
        self.hosts[host].wait_booted()
        self.hosts[host].wait_loaded()
        self.start_mcd(host)
