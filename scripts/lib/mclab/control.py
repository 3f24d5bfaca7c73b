# SPDX-License-Identifier: GPL-2.0-or-later
"""Talking to an mcd: through mcctl, as an administrator does; on its control socket, as a program
(or a badly behaved one) does; and its events, kept in a file and waited for."""
import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

from .proc import LabError, spawn

Json = dict[str, Any]


class CommandError(LabError):
    """mcd or mcctl refused: cls and message are theirs, status is mcctl's exit status."""

    def __init__(self, cls: str, message: str, status: int = 1) -> None:
        super().__init__("%s: %s" % (cls, message))
        self.cls = cls
        self.message = message
        self.status = status


def mcctl(program: str, sock: str, args: list[str], timeout: float = 120) -> Json:
    """Runs `mcctl --json ARGS`; the last JSON value on stdout."""
    try:
        r = subprocess.run([program, "--socket", sock, "--json", *args], capture_output=True, text=True,
                           stdin=subprocess.DEVNULL, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise LabError("mcctl %s did not end within %d s" % (" ".join(args), timeout)) from None
    lines = [line for line in r.stdout.splitlines() if line.strip()]
    try:
        value = json.loads(lines[-1]) if lines else {}
    except ValueError:  # one value over several lines
        try:
            value = json.loads(r.stdout)
        except ValueError:
            raise LabError("mcctl %s did not print JSON: %s" % (args[0], r.stdout[:200])) from None
    if r.returncode == 0:
        return value
    error = value.get("error", {}) if isinstance(value, dict) else {}
    raise CommandError(error.get("class", ""), error.get("message", r.stderr.strip()), r.returncode)


class Control:
    """A connection to the control socket; one request at a time."""

    def __init__(self, path: str, timeout: float = 5) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout)
        try:
            self.sock.connect(path)
            self._in = self.sock.makefile("rb")
            self.greeting = json.loads(self._in.readline())
        except (OSError, ValueError) as e:
            self.sock.close()
            raise LabError("no mcd at %s: %s" % (path, e)) from None
        self._id = 0

    def send_raw(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read_line(self) -> Json | None:
        """The next message; None: mcd closed the connection."""
        line = self._in.readline()
        return json.loads(line) if line else None

    def request(self, execute: str, timeout: float = 30, **arguments: Any) -> Any:
        self._id += 1
        self.sock.settimeout(timeout)
        self.send_raw(json.dumps({"id": self._id, "execute": execute, "arguments": arguments}).encode() + b"\n")
        while True:
            try:
                answer = self.read_line()
            except OSError as e:
                raise LabError("%s: no answer: %s" % (execute, e)) from None
            if answer is None:
                raise LabError("%s: mcd closed the connection" % execute)
            if answer.get("id") != self._id:
                continue
            if "error" in answer:
                raise CommandError(answer["error"].get("class", ""), answer["error"].get("message", ""))
            if "return" in answer:
                return answer["return"]  # what came before were progress lines

    def close(self) -> None:
        self._in.close()
        self.sock.close()

    def __enter__(self) -> "Control":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Events:
    """The events of one mcd, from `mcctl events`, in memory and in a file."""

    def __init__(self, program: str, sock: str, host: str, file: str,
                 listener: Callable[[Json], object] | None = None,
                 here: Callable[[int], int] = lambda ns: ns) -> None:
        self.host = host
        self.all: list[Json] = []
        self._here = here
        self._listener = listener
        self._changed = threading.Condition()
        self._file = open(file, "a", encoding="utf-8", buffering=1)
        self._process = spawn([program, "--socket", sock, "--json", "events", "--history"],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if "event" not in event:
                continue
            event["host"] = self.host
            event.setdefault("data", {})
            self._make_times_ours(event)
            self._file.write(json.dumps(event) + "\n")
            with self._changed:
                self.all.append(event)
                self._changed.notify_all()
            if self._listener:
                self._listener(event)
        with self._changed:
            self._changed.notify_all()

    def _make_times_ours(self, event: Json) -> None:
        """A host with a kernel of its own has a clock of its own."""
        for part, key in ((event, "time"), (event["data"], "last_heard"), (event["data"], "at")):
            if part.get(key):
                part[key] = self._here(part[key])

    def find(self, name: str, since: int = 0, **data: Any) -> Json | None:
        """The first event of that name since then whose data has these values, or None."""
        for e in list(self.all):
            if e["event"] == name and e.get("time", 0) >= since and \
                    all(e["data"].get(k) == v for k, v in data.items()):
                return e
        return None

    def wait(self, name: str, timeout: float, since: int = 0, **data: Any) -> Json:
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                e = self.find(name, since, **data)
                if e:
                    return e
                left = deadline - time.monotonic()
                if left <= 0:
                    raise LabError("no event %s %s on %s within %.1f s" % (name, data or "", self.host, timeout))
                self._changed.wait(left)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._thread.join(2)
        if self._process.stdout:
            self._process.stdout.close()
        self._file.close()
