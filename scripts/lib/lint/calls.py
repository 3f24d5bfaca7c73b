# SPDX-License-Identifier: GPL-2.0-or-later
"""calls.py BUILD: who uses whose symbols, by the object files; the same rules as for includes."""

import json
import os
import subprocess
import sys

import circles
import rooms
import tree


def objects(build: str) -> dict[str, str]:
    """{source: object} of the product."""
    found: dict[str, str] = {}
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as f:
        for row in json.load(f):
            source = os.path.relpath(os.path.join(row["directory"], row["file"]))
            out = os.path.join(row["directory"], row["output"])
            if row["output"].split("/")[0] not in tree.PRODUCT:
                continue
            if source.startswith("build"):
                tree.skip(f"{build} is a unity build: an object for each file is needed")
            if not os.path.exists(source) or not os.path.exists(out) or \
                    os.path.getmtime(source) > os.path.getmtime(out):
                tree.skip(f"{build} is older than {source}: ninja -C {build}")
            found.setdefault(source, out)
    return found


def symbols(of: dict[str, str]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """{symbol: the file that defines it}, {file: symbols that it uses}."""
    source = {out: file for file, out in of.items()}
    listing = subprocess.run(["nm", "-g", "-A", "--format=posix", *source],
                             stdout=subprocess.PIPE, text=True, check=True).stdout
    owner: dict[str, str] = {}
    uses: dict[str, list[str]] = {}
    for line in listing.splitlines():
        out, rest = line.split(": ", 1)
        name, kind = rest.split()[:2]
        file = source[out]
        if kind in "Uwv":
            uses.setdefault(file, []).append(name)
        else:
            owner[name] = file
    return owner, uses


def main() -> None:
    build = sys.argv[1]
    if not os.path.exists(os.path.join(build, "compile_commands.json")):
        tree.skip(f"{build} is no build directory")
    of = objects(build)
    owner, uses = symbols(of)
    findings = []
    units: circles.Graph = {}
    folders: circles.Graph = {}
    for user, names in sorted(uses.items()):
        for name in names:
            used = owner.get(name)
            if not used or used == user:
                continue
            why = rooms.fault(user, used)
            if why:
                findings.append(f"{user}: {why} ({name} of {used})")
            units.setdefault(user, {}).setdefault(used, name)
            a, b = rooms.folder(user), rooms.folder(used)
            if a != b:
                folders.setdefault(a, {}).setdefault(b, f"{user} uses {name} of {used}")
    findings += circles.report("circle of calls", units)
    findings += circles.report("circle of folders", folders)
    tree.end(findings)


main()
