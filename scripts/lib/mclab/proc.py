# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes, namespaces and time."""
import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

libc = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1
CLONE_NEWNET = 0x40000000
T = TypeVar("T")


class LabError(Exception):
    """Something in the lab did not work; the message is for people."""


def now() -> int:
    """CLOCK_MONOTONIC in ns: the clock of mcd's events, the client and framewatch."""
    return time.monotonic_ns()


def run(argv: list[str], check: bool = True, timeout: float = 30, stdin: str | None = None) -> str:
    """Runs a command to its end; stdout as text."""
    try:
        r = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=timeout,
                           stdin=None if stdin is not None else subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise LabError("%s did not end within %d s" % (" ".join(argv[:4]), timeout)) from None
    if check and r.returncode:
        raise LabError("%s: %s" % (" ".join(argv), (r.stderr or r.stdout).strip() or r.returncode))
    return r.stdout


def spawn(argv: list[str], cgroup: str | None = None, **kwargs: Any) -> "subprocess.Popen[Any]":
    """Starts a process that dies with this one.

    In a session of its own, so that ^C reaches only us and we end it in order.  Call it from the
    main thread: the kernel sends the death signal when the *thread* that forked ends.
    """
    def prepare():
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if cgroup:
            with open(cgroup, "w", encoding="ascii") as f:
                f.write(str(os.getpid()))
    kwargs.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.Popen(argv, preexec_fn=prepare, start_new_session=True, **kwargs)


def end(process: "subprocess.Popen[Any] | None", grace: float = 2.0) -> None:
    """SIGTERM, then SIGKILL; fine on one that is gone or None."""
    if process is None or process.poll() is not None:
        return
    try:
        process.terminate()
        process.wait(grace)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def alive(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        with open("/proc/%d/stat" % pid, encoding="latin1") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def start_time(pid: int) -> int | None:
    """With the pid it names a process for good: pids are used again, this pair is not."""
    try:
        with open("/proc/%d/stat" % pid, encoding="latin1") as f:
            return int(f.read().rsplit(")", 1)[1].split()[19])
    except OSError:
        return None


def children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/children" % (pid, task), encoding="ascii") as f:
                found += [int(p) for p in f.read().split()]
    except OSError:
        pass
    return found


def processes() -> Iterator[tuple[int, str]]:
    """(pid, command name) of everything that runs."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open("/proc/%s/comm" % entry, encoding="latin1") as f:
                yield int(entry), f.read().strip()
        except OSError:
            continue


def wait_for(condition: Callable[[], T | None], timeout: float, what: str | Callable[[], str],
             interval: float = 0.01) -> T:
    """Polls for what nobody announces; the first true value of condition()."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise LabError("timed out after %.1f s: %s" % (timeout, what() if callable(what) else what))
        time.sleep(interval)


def in_netns(name: str, function: Callable[[], T]) -> T:
    """Calls function() in a thread that has moved into the named network namespace.

    A socket made there stays there: used for connections of the client's and for ioctls on the
    switch, without a process for each.
    """
    box: dict[str, Any] = {}

    def body():
        fd = os.open("/run/netns/" + name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if libc.setns(fd, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns " + name)
            box["value"] = function()
        except Exception as e:  # handed to the caller below
            box["error"] = e
        finally:
            os.close(fd)
    t = threading.Thread(target=body)
    t.start()
    t.join()
    if "error" in box:
        raise box["error"]
    return box["value"]
