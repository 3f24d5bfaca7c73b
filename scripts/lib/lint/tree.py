# SPDX-License-Identifier: GPL-2.0-or-later
"""The files that are looked at, and how a check ends."""

import os
import re
import sys

PRODUCT = ("common", "netbuf", "diskmirror", "failover", "mcd", "mcctl")


def files() -> list[str]:
    """Every file of the tree, relative to its top, which is the working directory."""
    found = []
    for folder, below, names in os.walk("."):
        below[:] = sorted(d for d in below
                          if d != ".git" and d != "__pycache__" and not d.startswith("build")
                          and not d.endswith("_cache"))
        found += [os.path.normpath(os.path.join(folder, n)) for n in sorted(names)]
    return [f for f in found if os.path.isfile(f) and not f.endswith((".o", ".pyc"))]


def product(*suffixes: str) -> list[str]:
    return [f for f in files() if f.split("/")[0] in PRODUCT and f.endswith(suffixes)]


def read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read()


def interpreter(path: str) -> str:
    """bash, sh, python3, ... or ''."""
    with open(path, "rb") as f:
        first = f.readline(80).decode(errors="replace")
    m = re.match(r"#!\s*\S*?([^/\s]+)(?:\s+([^-\s]\S*))?", first)
    return "" if not m else m[2] if m[1] == "env" and m[2] else m[1]


def end(findings: list[str]) -> None:
    for line in findings:
        print(line)
    sys.exit(1 if findings else 0)


def skip(why: str) -> None:
    print(why)
    sys.exit(77)
