# SPDX-License-Identifier: GPL-2.0-or-later
"""Prints result, name and (of a skipped one) the reason of each test in meson's testlog.json."""
import json
import sys


def reason(test):
    """The line in which the test says why: the one that mentions it, else its last."""
    lines = [line.strip() for key in ("stdout", "stderr") for line in test.get(key, "").splitlines() if line.strip()]
    told = [line for line in lines if "skip" in line.lower()]
    return (told or lines or ["no reason given"])[-1]


with open(sys.argv[1], encoding="utf-8") as log:
    for entry in map(json.loads, log):
        name = entry["name"].split(" / ")[-1]
        print(entry["result"], name, reason(entry) if entry["result"] == "SKIP" else "", sep="\t")
