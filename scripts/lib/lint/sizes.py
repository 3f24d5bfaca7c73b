# SPDX-License-Identifier: GPL-2.0-or-later
"""Sizes that keep a file and a function in the hand, and a README in each room."""

import os
import statistics

import tree

FILE_MAX = 500       # lines of a .c file of the product
MCD_FILE_MAX = 420   # of one of mcd/
MCD_MEDIAN = 150     # the median .c file of mcd/ is shorter
FUNCTION_MAX = 70    # a function of the product is shorter
README_MAX = 15      # lines that say what lives in a room, and who may touch it


def functions(lines: list[str]) -> list[tuple[int, int]]:
    """(line, length) of each: from the line of its name to the brace in the first column."""
    found = []
    head = body = 0
    for n, line in enumerate(lines, 1):
        if line == "{":
            body = n
        elif line == "}" and body:
            found.append((head, n - head + 1))
            body = 0
        elif not body and line[:1].isalpha() and "(" in line:
            head = n
    return found


def main() -> None:
    findings = []
    mcd = []
    for path in tree.product(".c"):
        lines = tree.read(path).splitlines()
        most = FILE_MAX
        if path.startswith("mcd/"):
            mcd.append(len(lines))
            most = MCD_FILE_MAX
        if len(lines) > most:
            findings.append(f"{path}: {len(lines)} lines, more than {most}")
        for at, length in functions(lines):
            if length >= FUNCTION_MAX:
                name = lines[at - 1].split("(")[0].split()[-1].lstrip("*")
                findings.append(f"{path}:{at}: {name} has {length} lines, must be under {FUNCTION_MAX}")
    median = statistics.median(mcd)
    if median >= MCD_MEDIAN:
        findings.append(f"mcd: the median .c file has {median:g} lines, must be under {MCD_MEDIAN}")
    for name in sorted(os.listdir("mcd")):
        readme = f"mcd/{name}/README.md"
        if not os.path.isdir(f"mcd/{name}"):
            continue
        if not os.path.exists(readme):
            findings.append(f"{readme}: missing: what lives here, what may be touched from where")
        elif len(tree.read(readme).splitlines()) > README_MAX:
            findings.append(f"{readme}: more than {README_MAX} lines")
    tree.end(findings)


main()
