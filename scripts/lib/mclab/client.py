# SPDX-License-Identifier: GPL-2.0-or-later
"""The programs at the edge of the lab: the client on the VMs' network, the watcher at the switch."""
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from . import proc
from .control import Json
from .proc import LabError, end, in_netns, spawn
from .switch import port

if TYPE_CHECKING:
    from .lab import Lab
    from .vm import Vm


class Client:
    """ftclient in the client's namespace; its reports are kept, the newest in `last`."""

    def __init__(self, lab: "Lab", vm: "Vm", think: int = 2, window: int = 1, seconds: int = 0, patience: int = 30,
                 report: int = 100, listener: Callable[[Json], object] | None = None, check: bool = True) -> None:
        self.log = os.path.join(lab.dir, "requests-%s-%d.json" % (vm.name, proc.now()))
        self.reports: list[Json] = []
        self.summary: Json | None = None
        self.status: int | None = None
        self._listener = listener
        self._changed = threading.Condition()
        argv = ["ip", "netns", "exec", lab.client_ns, lab.tool("tests/tools/ftclient"),
                "--host", vm.address, "--think", str(think), "--window", str(window),
                "--patience", str(patience), "--report", str(report), "--log", self.log]
        if seconds:
            argv += ["--seconds", str(seconds)]
        if not check:
            argv += ["--no-check"]
        self._process = spawn(argv, stdout=subprocess.PIPE, text=True)  # `ip netns exec` becomes ftclient
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            try:
                value = json.loads(line)
            except ValueError:
                continue
            with self._changed:
                if "lost" in value:
                    self.summary = value
                else:
                    self.reports.append(value)
                self._changed.notify_all()
            if self._listener and "lost" not in value:
                self._listener(value)
        with self._changed:
            self._changed.notify_all()

    @property
    def last(self) -> Json:
        return self.reports[-1] if self.reports else {"acked": 0, "last_answer": 0, "state": "connecting"}

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait_acked(self, more: int, timeout: float = 30) -> None:
        """Until that many requests more have been answered.  A report may be old when it is read: what counts
        begins with the first one that knows an answer from after the call, and that answer is the first."""
        begin, deadline = proc.now(), time.monotonic() + timeout
        target = self.wait_answer_after(begin, timeout)["acked"] + more - 1
        with self._changed:
            self._changed.wait_for(lambda: self.last["acked"] >= target or self.summary, deadline - time.monotonic())
        if self.last["acked"] < target:
            raise LabError("the client got %d answers instead of %d within %.0f s (%s)" % (
                self.last["acked"], target, timeout, self.last["state"]))

    def wait_answer_after(self, moment: int, timeout: float = 30) -> Json:
        """Until an answer has come in since then; the first report that says so."""
        def found() -> Json | None:
            return next((r for r in self.reports if r["last_answer"] > moment), None)
        with self._changed:
            self._changed.wait_for(lambda: found() or self.summary, timeout)
        first = found()
        if not first:
            raise LabError("no answer at the client within %.0f s" % timeout)
        return first

    def stop(self, timeout: float = 90) -> Json:
        """Lets it verify all that was acknowledged, and returns its summary."""
        if self.running:
            self._process.send_signal(signal.SIGTERM)
        try:
            self.status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self.status = self._process.wait()
        self._thread.join(2)
        if self.summary is None:
            raise LabError("the client ended without a summary (status %s)" % self.status)
        return self.summary

    def requests(self) -> list[Json]:
        with open(self.log, encoding="ascii") as f:
            return [json.loads(line) for line in f if line.endswith("}\n")]

    def first_answer_after(self, moment: int) -> int | None:
        """When the first answer since that moment came in, or None."""
        for r in self.requests():
            if r["answered"] > moment:
                return r["answered"]
        return None

    def close(self) -> None:
        if self.running:
            self._process.kill()
            self._process.wait()
        self._thread.join(2)
        if self._process.stdout:
            self._process.stdout.close()


def ask(lab: "Lab", vm: "Vm", line: str, timeout: float = 30) -> str:
    """One request on a connection of its own, e.g. CHECK; the answer line."""
    s = in_netns(lab.client_ns, lambda: socket.socket(socket.AF_INET))
    try:
        s.settimeout(timeout)
        s.connect((vm.address, 7000))
        s.sendall(line.encode() + b"\n")
        with s.makefile("r") as f:
            return f.readline().strip()
    except OSError as e:
        raise LabError("the guest does not answer %s: %s" % (line, e)) from None
    finally:
        s.close()


class FrameWatch:
    """framewatch on the switch, at every host's port of the VMs' network."""

    def __init__(self, lab: "Lab", vms: "Iterable[Vm]", log: str | None = None) -> None:
        argv = ["ip", "netns", "exec", lab.switch.ns, lab.tool("tests/tools/framewatch")]
        for host in lab.hosts:
            argv += ["--port", "%s=%s" % (host, port("vm", host))]
        for vm in vms:
            argv += ["--mac", vm.mac]
        if log:
            argv += ["--log", log]
        self._process = spawn(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr
        line = self._process.stderr.readline()
        if "ready" not in line:
            raise LabError("framewatch does not start: " + line.strip())

    def stop(self) -> Json:
        self._process.send_signal(signal.SIGTERM)
        out, _ = self._process.communicate(timeout=10)
        return json.loads(out)

    def close(self) -> None:
        end(self._process, 1)
        for f in (self._process.stdout, self._process.stderr):
            if f:
                f.close()
