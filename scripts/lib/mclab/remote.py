# SPDX-License-Identifier: GPL-2.0-or-later
"""Talking to the agent of a lab host (labhost/agent.py, which specifies the lines)."""
import json
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .proc import LabError, in_netns, now

if TYPE_CHECKING:
    from .vmhost import VmHost

PORT = 7700
BLOCK = 1 << 16


class Connection:
    """To an agent, with its first answer.  host.alive() says whether more can come: nothing tells TCP of a
    host that was switched off."""

    def __init__(self, host: "VmHost", timeout: float = 30, **request: Any) -> None:
        self.host = host
        self._rest = b""
        self.sock = in_netns(host.lab.switch.ns, lambda: socket.socket(socket.AF_INET))
        try:
            self.sock.settimeout(timeout)
            self.sock.connect((host.management_address, PORT))
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.send(**request)
            first = self.read(timeout)
        except OSError as e:
            self.close()
            raise LabError("%s does not do '%s': %s" % (host.name, request.get("do"), e)) from None
        if first is None or "error" in first:
            self.close()
            raise LabError("%s: %s: %s" % (host.name, request.get("do"), (first or {}).get("error", "no answer")))
        self.first = first

    def send(self, **what: Any) -> None:
        self.sock.sendall(json.dumps(what).encode() + b"\n")

    def read(self, timeout: float | None) -> dict[str, Any] | None:
        """The next line; None: the host is gone; TimeoutError."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while b"\n" not in self._rest:
            left = 0.2 if deadline is None else deadline - time.monotonic()
            if select.select([self.sock], [], [], max(0, min(left, 0.2)))[0]:
                try:
                    more = self.sock.recv(BLOCK)
                except OSError:
                    more = b""
                if not more:
                    return None
                self._rest += more
            elif not self.host.alive():
                return None
            elif left <= 0:
                raise TimeoutError("no answer in time")
        line, self._rest = self._rest.split(b"\n", 1)
        return json.loads(line)

    def close(self) -> None:
        self.sock.close()


def ask(host: "VmHost", **request: Any) -> dict[str, Any]:
    """One request, one answer."""
    c = Connection(host, **request)
    c.close()
    return c.first


class Process:
    """A command in a lab host, with the part of Popen's interface that the lab uses.  It is dead when its host
    is; pid is the one it has in there."""

    stdin = stdout = stderr = None

    def __init__(self, host: "VmHost", argv: Iterable[Any], env: dict[str, str] | None = None, cwd: str | None = None,
                 stdout: str | None = None, stderr: str | None = None) -> None:
        self.args = [str(a) for a in argv]
        self.returncode: int | None = None
        self._c = Connection(host, do="run", argv=self.args, env=env, cwd=cwd, stdout=stdout,
                             stderr=stderr)
        self.pid: int = self._c.first["pid"]

    def _take(self, timeout: float | None) -> int:
        if self.returncode is None:
            end = self._c.read(timeout)
            self.returncode = -signal.SIGKILL if end is None else int(end["status"])
            self._c.close()
        return self.returncode

    def poll(self) -> int | None:
        try:
            return self._take(0)
        except TimeoutError:
            return None

    def wait(self, timeout: float | None = None) -> int:
        try:
            return self._take(timeout)
        except TimeoutError:
            raise subprocess.TimeoutExpired(self.args, timeout or 0) from None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            self._c.send(signal=int(number))

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Clock:
    """What CLOCK_MONOTONIC of a lab host is in terms of ours.

    Of the last samples the one with the shortest way there and back is believed, so one that a busy machine
    has delayed does no harm; the old ones go because the two may drift apart.
    """
    SAMPLES, EVERY = 16, 2

    def __init__(self, host: "VmHost") -> None:
        self._c = Connection(host, do="clock")
        self._samples: list[tuple[int, int]] = []
        self._stop = threading.Event()
        for _ in range(self.SAMPLES):
            self._sample()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        before = now()
        self._c.send()
        answer = self._c.read(5)
        if answer is None:
            raise OSError("the host is off")
        there = answer["now"]
        after = now()
        self._samples = (self._samples + [(after - before, (before + after) // 2 - there)])[-self.SAMPLES:]

    def _run(self) -> None:
        while not self._stop.wait(self.EVERY):
            try:
                self._sample()
            except OSError:  # the host is off: what we know stays
                return

    def here(self, there: int) -> int:
        return there + min(self._samples)[1]

    @property
    def error(self) -> int:
        """ns: how far off it may be."""
        return min(self._samples)[0] // 2

    def close(self) -> None:
        self._stop.set()
        self._thread.join(6)
        self._c.close()


class Relay:
    """A unix socket of a lab host, to be connected to from outside at `path`."""

    def __init__(self, host: "VmHost", path: str, inside: str) -> None:
        self._host = host
        self.path = path
        self._inside = inside
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._server = socket.socket(socket.AF_UNIX)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if os.path.exists(path):
            os.unlink(path)
        self._server.bind(path)
        self._server.listen(16)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                s, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(s,), daemon=True).start()

    def _serve(self, s: socket.socket) -> None:
        try:
            c = Connection(self._host, 10, do="connect", path=self._inside)
        except LabError:
            s.close()  # nobody listens in there: the caller sees a connection that ends at once
            return
        with self._lock:
            self._open |= {s, c.sock}
        c.sock.settimeout(None)
        back = threading.Thread(target=self._copy, args=(c.sock, s, c._rest), daemon=True)
        back.start()
        self._copy(s, c.sock, b"")
        back.join()
        with self._lock:
            self._open -= {s, c.sock}
        s.close()
        c.close()

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket, data: bytes) -> None:
        try:
            while True:
                if data:
                    target.sendall(data)
                data = source.recv(BLOCK)
                if not data:
                    break
        except OSError:
            pass
        for x in (source, target):
            try:
                x.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def hang_up(self) -> None:
        """Ends every connection: their host is gone."""
        with self._lock:
            for s in self._open:
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def close(self) -> None:
        try:
            self._server.shutdown(socket.SHUT_RDWR)  # wakes accept
        except OSError:
            pass
        self._server.close()
        self.hang_up()
        if os.path.exists(self.path):
            os.unlink(self.path)
