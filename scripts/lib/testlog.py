# SPDX-License-Identifier: GPL-2.0-or-later
"""Prints result, name and the reason of each test in meson's testlog.json: of a skipped one why, of one that
failed by a sanitizer's word "safety"."""
import json
import sys


def reason(test):
    """The line in which the test says why: the one that mentions it, else its last."""
    lines = [line.strip() for key in ("stdout", "stderr") for line in test.get(key, "").splitlines() if line.strip()]
    told = [line for line in lines if "skip" in line.lower()]
    return (told or lines or ["no reason given"])[-1]


def safety(test):
    said = test.get("stdout", "") + test.get("stderr", "")
    return "safety" if "Sanitizer" in said or "runtime error:" in said else ""


with open(sys.argv[1], encoding="utf-8") as log:
    for entry in map(json.loads, log):
        name = entry["name"].split(" / ")[-1]
        print(entry["result"], name, reason(entry) if entry["result"] == "SKIP" else safety(entry), sep="\t")
