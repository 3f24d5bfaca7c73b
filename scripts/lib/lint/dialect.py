# SPDX-License-Identifier: GPL-2.0-or-later
"""The dialect of error texts: they get wrapped, so they begin in lower case and end without a stop."""

import re

import tree

CALL = re.compile(r"\bmc_error_(set|wrap)\(")
TEXT_AT = {"set": 3, "wrap": 1}
TOKEN = re.compile(r"""/\*.*?\*/|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[(){}\[\],?:;]|[^\s"'(){}\[\],?:;/]+|\s+|.""", re.S)
# What is written with a capital anywhere; a word all in capitals is, too.
NAMES = ("QEMU", "GnuTLS", "VM", "NBD", "RDMA", "TCP", "QMP", "Linux", "Corosync", "IPv4", "IPv6", "InfiniBand", "RoCE")


def texts(source: str, start: int, which: int) -> list[str]:
    """The alternatives of argument `which` of the call whose arguments begin at start."""
    depth = at = 0
    found = [""]
    for m in TOKEN.finditer(source, start):
        t = m[0]
        if t in "([{":
            depth += 1
        elif t in ")]}":
            if depth == 0:
                break
            depth -= 1
        elif t == "," and depth == 0:
            at += 1
        elif at != which:
            continue
        elif t in "?:" and depth == 0:
            found.append("")
        elif t[0] == '"':
            found[-1] += t[1:-1]
    return [f for f in found if f]


def fault(text: str) -> str:
    word = re.split(r"[^\w%-]", text, maxsplit=1)[0]
    if text[0].isupper() and word not in NAMES and not re.fullmatch(r"[A-Z0-9_]{2,}s?", word):
        return "begins with a capital"
    if text.endswith(".") and not text.endswith("..."):
        return "ends with a full stop"
    return ""


def main() -> None:
    findings = []
    for path in tree.product(".c", ".h"):
        source = tree.read(path)
        for m in CALL.finditer(source):
            for text in texts(source, m.end(), TEXT_AT[m[1]]):
                why = fault(text)
                if why:
                    line = source.count("\n", 0, m.start()) + 1
                    findings.append(f'{path}:{line}: an error text {why}: "{text[:60]}"')
    tree.end(findings)


main()
