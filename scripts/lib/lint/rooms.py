# SPDX-License-Identifier: GPL-2.0-or-later
"""The walls: which room may use which.  A file at the top of mcd/ is a room of its own."""

import os

_LOW = ("common", "netbuf", "diskmirror", "failover",
        "mcd/config", "mcd/control", "mcd/guest", "mcd/wire")
_ANY = ("*",)

WALLS: dict[str, tuple[str, ...]] = {
    "common": (),
    "netbuf": ("common",),
    "diskmirror": ("common",),
    "failover": ("common",),
    "mcctl": ("common",),
    "mcd/config": ("common",),
    "mcd/control": ("common",),
    "mcd/wire": ("common",),
    "mcd/guest": ("common", "mcd/config"),
    "mcd/vm": _LOW,
    "mcd/primary": (*_LOW, "mcd/vm"),
    "mcd/standby": (*_LOW, "mcd/vm"),
    "mcd/life": (*_LOW, "mcd/vm", "mcd/primary", "mcd/standby"),
    "mcd/hosts": (*_LOW, "mcd/vm", "mcd/standby", "mcd/life"),
    "mcd/verbs": (*_LOW, "mcd/vm", "mcd/life", "mcd/hosts"),
    "mcd/bringup": _ANY,
    "mcd/main": _ANY,
}


def room(path: str) -> str:
    """mcd/guest/dirty/pagescan.c -> mcd/guest; mcd/main.c -> mcd/main; common/rdma/x.c -> common."""
    part = os.path.splitext(path)[0].split("/")
    return "/".join(part[:2]) if part[0] == "mcd" else part[0]


def unit(path: str) -> str:
    """a/b.c and a/b.h are one."""
    return os.path.splitext(path)[0]


def folder(path: str) -> str:
    """The folder a file is in; those at the top of mcd/ stand for themselves."""
    where = os.path.dirname(path)
    return unit(path) if where == "mcd" else where


def fault(user: str, used: str) -> str:
    """'' or what is wrong with file user's use of file used."""
    a, b = room(user), room(used)
    if a not in WALLS:
        return f"{a} is no room of scripts/lib/lint/rooms.py"
    if a == b or b in WALLS[a] or WALLS[a] == _ANY:
        return ""
    if b not in WALLS:
        return f"{b} is no room of scripts/lib/lint/rooms.py"
    return f"{a} must not use {b}"
