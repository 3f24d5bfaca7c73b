# SPDX-License-Identifier: GPL-2.0-or-later
"""A power failure with its loss of what was not fdatasynced, for a host whose mcd is mcd-forget
(tests/tools/forget.c, which describes the logs)."""
import os
import struct

HEAD = struct.Struct("=QQQ")


def records(path):
    found = []
    with open(path, "rb") as f:
        data = f.read()
    at = 0
    while at + HEAD.size <= len(data):
        off, length, size = HEAD.unpack_from(data, at)
        at += HEAD.size
        there = max(0, min(length, size - off))
        if at + there > len(data):
            break  # the host died while it was written, and what it announces was not done either
        found.append((off, data[at:at + there], size))
        at += there
    return found


def forget(host):
    """After poweroff(); bytes that were undone, of each file."""
    host.gone()
    logs = host.path("state", "forget")
    undone: dict[str, int] = {}
    for log in sorted(os.listdir(logs)) if os.path.isdir(logs) else ():
        name = log[:-len(".undo")]
        path = host.path("state", "disks", name) if name.endswith(".journal") else host.path("disks", name)
        with open(path, "r+b") as f:
            for off, old, size in reversed(records(os.path.join(logs, log))):
                f.seek(off)
                f.write(old)
                f.truncate(size)
                undone[name] = undone.get(name, 0) + len(old)
        os.unlink(os.path.join(logs, log))
    return undone
