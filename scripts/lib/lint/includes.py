# SPDX-License-Identifier: GPL-2.0-or-later
"""Includes: no circle of files, none of folders, none through a wall, none that is no file.

A private header belongs to every .c file that includes it: what those use of each other is for
calls.py to see.
"""

import os
import re

import circles
import rooms
import tree

PRIVATE = re.compile(r"(^|[-/])(private|internal)\.h$")
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)


def find(user: str, name: str) -> str:
    """The file that is meant, from the root or beside the user; '' when there is none."""
    beside = os.path.normpath(os.path.join(os.path.dirname(user), name))
    return name if os.path.exists(name) else beside if os.path.exists(beside) else ""


def main() -> None:
    findings = []
    units: circles.Graph = {}
    folders: circles.Graph = {}
    for user in tree.product(".c", ".h"):
        text = tree.read(user)
        for m in INCLUDE.finditer(text):
            where = f"{user}:{text.count(chr(10), 0, m.start(1)) + 1}"
            used = find(user, m[1])
            if not used:
                findings.append(f"{where}: {m[1]} is nowhere")
                continue
            if used.split("/")[0] not in tree.PRODUCT:
                findings.append(f"{where}: the product must not include {used}")
                continue
            why = rooms.fault(user, used)
            if why:
                findings.append(f"{where}: {why} ({used})")
            a, b = rooms.unit(user), rooms.unit(used)
            if a != b and not (user.endswith(".c") and PRIVATE.search(used)):
                units.setdefault(a, {}).setdefault(b, where)
            a, b = rooms.folder(user), rooms.folder(used)
            if a != b:
                folders.setdefault(a, {}).setdefault(b, f"{where} includes {used}")
    findings += circles.report("circle of includes", units)
    findings += circles.report("circle of folders", folders)
    tree.end(findings)


main()
