# SPDX-License-Identifier: GPL-2.0-or-later
"""pid 1 of a lab host: does there what the lab asks for (remote.py is the other side).

A connection each, which begins with one line of JSON:

    {"do": "run", "argv": [...], "env": {...}, "cwd": P, "stdout": FILE, "stderr": FILE}
                                 -> {"pid": N}, later {"status": S}; S as in subprocess, < 0: a signal
                                 meanwhile {"signal": N} lines are heeded
    {"do": "connect", "path": P} -> {"ok": true}, then the bytes of that unix socket, both ways
    {"do": "clock"}              -> {"now": ns of CLOCK_MONOTONIC}, again for every further line
    {"do": "ps"}                 -> {"processes": [[pid, name, command line], ...]}
    {"do": "kill", "pid": P, "signal": N} -> {"ok": true}, of SIGKILL once the process is gone

What fails is answered with {"error": TEXT}.  Every connection has a process of its own: no request
can delay another one, or the agent.
"""
import json
import os
import select
import signal
import socket
import sys
import time

BLOCK = 1 << 16


def answer(c, **what):
    c.sendall(json.dumps(what).encode() + b"\n")


def lines(c, rest=b""):
    """The lines of a connection; each read blocks."""
    while True:
        while b"\n" in rest:
            line, rest = rest.split(b"\n", 1)
            yield line
        more = c.recv(BLOCK)
        if not more:
            return
        rest += more


def become(q):
    """In the child: the command, with its files."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and that would be inherited
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    for number, key in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(q.get(key) or "/dev/null", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), number)
    os.closerange(3, 1024)
    try:
        if q.get("cwd"):
            os.chdir(q["cwd"])
        env = dict(os.environ, **(q.get("env") or {}))
        os.execvpe(q["argv"][0], q["argv"], env)
    except OSError as e:
        os.write(2, ("%s: %s\n" % (q["argv"][0], e.strerror)).encode())
        os._exit(127)


def run(c, q):
    pid = os.fork()
    if pid == 0:
        become(q)
    ended = os.pidfd_open(pid)
    answer(c, pid=pid)
    poll, rest = select.poll(), b""
    poll.register(ended, select.POLLIN)
    poll.register(c, select.POLLIN)
    while True:
        ready = [fd for fd, _ in poll.poll()]
        if ended in ready:
            answer(c, status=os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            return
        more = c.recv(BLOCK)
        if not more:
            return  # nobody waits for it; it lives on
        rest += more
        while b"\n" in rest:
            line, rest = rest.split(b"\n", 1)
            os.kill(pid, json.loads(line)["signal"])


def connect(c, q):
    s = socket.socket(socket.AF_UNIX)
    s.connect(q["path"])
    answer(c, ok=True)
    other = {s.fileno(): c, c.fileno(): s}
    source = {s.fileno(): s, c.fileno(): c}
    poll = select.poll()
    for fd in other:
        poll.register(fd, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            data = source[fd].recv(BLOCK)
            if not data:
                return
            other[fd].sendall(data)


def clock(c, _q):
    answer(c, now=time.monotonic_ns())
    for _ in lines(c):
        answer(c, now=time.monotonic_ns())


def ps(c, _q):
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open("/proc/%s/comm" % entry, encoding="latin1") as f:
                    comm = f.read().strip()
                with open("/proc/%s/cmdline" % entry, encoding="latin1") as f:
                    found.append([int(entry), comm, f.read().replace("\0", " ").strip()])
            except OSError:
                continue
    answer(c, processes=found)


def kill(c, q):
    there = os.pidfd_open(q["pid"])
    signal.pidfd_send_signal(there, q["signal"])
    if q["signal"] == signal.SIGKILL:
        select.select([there], [], [], 30)
    answer(c, ok=True)


def serve(c):
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        q = json.loads(next(lines(c)))
        {"run": run, "connect": connect, "clock": clock, "ps": ps, "kill": kill}[q["do"]](c, q)
    except (OSError, ValueError, KeyError, StopIteration) as e:
        try:
            answer(c, error="%s: %s" % (type(e).__name__, e))
        except OSError:
            pass


def main():
    server = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whoever is left to pid 1 is buried by the kernel
    open("/run/lab/booted", "w", encoding="ascii").close()
    while True:
        try:
            c, _ = server.accept()
        except OSError:
            continue
        if os.fork() == 0:
            server.close()
            serve(c)
            os._exit(0)
        c.close()


main()
