# SPDX-License-Identifier: GPL-2.0-or-later
"""Stopping a whole host for a while, by the cgroup freezer of either generation."""
import os

from .proc import LabError, wait_for

V1, V2 = "/sys/fs/cgroup/freezer", "/sys/fs/cgroup"


class Freezer:
    """A cgroup for the processes of one host. Without a freezer on this machine: procs is None."""

    def __init__(self, name: str) -> None:
        self.dir = ""
        self.procs: str | None = None
        self.v1 = os.path.isdir(V1)
        if not self.v1 and not os.path.exists(V2 + "/cgroup.controllers"):
            return
        path = os.path.join(V1 if self.v1 else V2, name)
        try:
            os.makedirs(path, exist_ok=True)
        except OSError:
            return
        self.dir, self.procs = path, path + "/cgroup.procs"

    def _set(self, frozen: bool) -> None:
        if not self.dir:
            raise LabError("this machine has no cgroup freezer that we can use")
        if self.v1:
            word = "FROZEN" if frozen else "THAWED"
            self._write("freezer.state", word)
            wait_for(lambda: self._read("freezer.state").strip() == word, 5, "freezer " + word)
        else:
            self._write("cgroup.freeze", "1" if frozen else "0")
            wait_for(lambda: ("frozen %d" % frozen) in self._read("cgroup.events"), 5, "freezer")

    def _write(self, name: str, text: str) -> None:
        with open(os.path.join(self.dir, name), "w", encoding="ascii") as f:
            f.write(text)

    def _read(self, name: str) -> str:
        with open(os.path.join(self.dir, name), encoding="ascii") as f:
            return f.read()

    def freeze(self) -> None:
        self._set(True)

    def thaw(self) -> None:
        self._set(False)

    def close(self) -> None:
        if not self.dir:
            return
        try:
            self.thaw()  # a frozen process cannot be killed (v1)
            wait_for(lambda: not self._read("cgroup.procs").strip(), 3, "cgroup empty")
            os.rmdir(self.dir)
        except (OSError, LabError):
            pass  # the next run's sweep tries again
