# SPDX-License-Identifier: GPL-2.0-or-later
"""What no file may lack, and what none may have."""

import os
import re

import tree

SPDX = "SPDX-License-Identifier: GPL-2.0-or-later"
SOURCES = (".c", ".h", ".py", ".sh", ".build", ".pml", ".md", ".scd", ".conf")
LATER = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b")
MACHINE = re.compile(r"(?<![\w.])/(?:wo" r"rk|ho" r"me|ro" r"ot)/[\w.]")


def of_file(path: str) -> list[str]:
    findings = []
    text = tree.read(path)
    lines = text.splitlines()
    head = "\n".join(lines[:3])
    if SPDX not in head:
        findings.append(f"{path}:1: no line {SPDX}")
    elif path.endswith((".c", ".h")) and f"/* {SPDX} */" != lines[0]:
        findings.append(f"{path}:1: the first line is to be /* {SPDX} */")
    if text and not text.endswith("\n"):
        findings.append(f"{path}:{len(lines)}: the last line has no end")
    for n, line in enumerate(lines, 1):
        if LATER.search(line):
            findings.append(f"{path}:{n}: left for later: {line.strip()}")
        if MACHINE.search(line):
            findings.append(f"{path}:{n}: a path of one machine: {line.strip()}")
        if line != line.rstrip():
            findings.append(f"{path}:{n}: white space at the end")
    return findings


def main() -> None:
    findings = []
    for path in tree.files():
        if path.endswith(SOURCES) or os.path.basename(path) == ".clang-format" or tree.interpreter(path):
            findings += of_file(path)
    tree.end(findings)


main()
