# SPDX-License-Identifier: GPL-2.0-or-later
"""Removes what a lab that was killed (SIGKILL, out of memory) could not remove itself.

Its processes died with it (death signals); namespaces, cgroups and the work directory remain.  Every
lab is named after the pid of its owner, and its directory says when that process started, so that
another process with the same pid is not taken for the owner.
"""
import glob
import os
import re
import shutil
import signal

from . import proc
from .freezer import V1, V2

PREFIX = "mclab"


def owner_file(directory):
    return os.path.join(directory, "owner")


def claim(directory):
    with open(owner_file(directory), "w", encoding="ascii") as f:
        f.write("%d %s\n" % (os.getpid(), proc.start_time(os.getpid())))


def _owned(directory):
    """(pid, whether that process still lives) of a work directory; None: not ours."""
    try:
        with open(owner_file(directory), encoding="ascii") as f:
            pid, start = map(int, f.read().split())
    except (OSError, ValueError):
        return None
    return pid, proc.start_time(pid) == start


def _remove_namespaces(pid):
    for name in os.listdir("/run/netns") if os.path.isdir("/run/netns") else []:
        if name.startswith("%s%d-" % (PREFIX, pid)):
            for p in proc.run(["ip", "netns", "pids", name], check=False).split():
                try:
                    os.kill(int(p), signal.SIGKILL)
                except OSError:
                    pass
            proc.run(["ip", "netns", "del", name], check=False)


def _remove_cgroups(pid):
    for base in (V1, V2):
        for path in glob.glob("%s/%s%d-*" % (base, PREFIX, pid)):
            state = os.path.join(path, "freezer.state" if base == V1 else "cgroup.freeze")
            try:
                with open(state, "w", encoding="ascii") as f:
                    f.write("THAWED" if base == V1 else "0")
                os.rmdir(path)
            except OSError:
                pass


def _dead_labs() -> dict[int, str | None]:
    """{pid: work directory or None} of the labs whose owner is gone."""
    living: set[int] = set()
    dead: dict[int, str | None] = {}
    for directory in glob.glob("/tmp/mcd-lab.*"):
        owner = _owned(directory)
        if owner and owner[1]:
            living.add(owner[0])
        elif owner:
            dead[owner[0]] = directory
    # A run that died before it had a directory, or whose directory somebody removed.
    for name in os.listdir("/run/netns") if os.path.isdir("/run/netns") else []:
        m = re.match(r"%s(\d+)-" % PREFIX, name)
        if m and int(m[1]) not in living and not proc.alive(int(m[1])):
            dead.setdefault(int(m[1]), None)
    return dead


def _kept(directory: str | None) -> bool:
    return directory is None or os.path.exists(os.path.join(directory, "keep"))


def leftovers() -> list[str]:
    """What labs have left behind: namespaces, and directories that nobody asked to keep."""
    left: list[str] = []
    for pid, directory in _dead_labs().items():
        left += [directory] if directory and not _kept(directory) else []
        left += glob.glob("/run/netns/%s%d-*" % (PREFIX, pid))
    return left


def sweep() -> None:
    for pid, directory in _dead_labs().items():
        _remove_namespaces(pid)
        _remove_cgroups(pid)
        if directory and not _kept(directory):
            shutil.rmtree(directory, ignore_errors=True)
