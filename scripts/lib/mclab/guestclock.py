# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest's clocks, and its agent as an administrator would talk to it."""
import json
import socket
import time

from .proc import LabError


class Agent:
    """A client of the QEMU guest agent, on the socket of the VM's QEMU."""

    def __init__(self, path, timeout=10):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout)
        self.sock.connect(path)

    def sync(self, tries=30):
        """Until the agent answers; one that is only being started does not get what came before."""
        data = b""
        self.sock.settimeout(1)
        for number in range(4711, 4711 + tries):
            self.sock.sendall(b'\xff{"execute":"guest-sync-delimited","arguments":{"id":%d}}\n' % number)
            try:
                while b'\xff{"return": %d}\n' % number not in data:
                    more = self.sock.recv(4096)
                    if not more:
                        raise LabError("QEMU closed the agent's socket")
                    data += more
            except TimeoutError:
                continue
            self.sock.settimeout(10)
            return self
        raise LabError("the guest's agent does not answer")

    def ask(self, execute, **arguments):
        self.sock.sendall(json.dumps({"execute": execute, "arguments": arguments}).encode() + b"\n")
        with self.sock.makefile("r") as f:
            answer = json.loads(f.readline())
        if "error" in answer:
            raise LabError("%s: %s" % (execute, answer["error"]["desc"]))
        return answer["return"]

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


class Reading:
    """The guest's clocks at a moment of this machine's, which was in the middle of the question."""

    def __init__(self, lab, vm):
        before, wall = time.monotonic(), time.time()
        said = dict(word.split("=") for word in lab.ask(vm, "TIME", timeout=90).split()[1:])
        took = time.monotonic() - before
        self.at, self.wall = before + took / 2, wall + took / 2
        self.mono, self.real = int(said["mono"]) / 1e9, int(said["real"]) / 1e9
        self.back, self.gap, self.source = int(said["back"]) / 1e9, int(said["gap"]) / 1e9, said["source"]
        self.error = took / 2

    @property
    def behind(self):
        """Seconds by which the guest's wall clock is late."""
        return self.wall - self.real
