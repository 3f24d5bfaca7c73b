# SPDX-License-Identifier: GPL-2.0-or-later
"""What the measurements have in common: their command line, how they end, and a little arithmetic."""
import argparse
import json
import re
import sys

from mclab import LabError
from mclab.demo import size

UNITS = {"us": 0.001, "ms": 1, "s": 1000}


def milliseconds(text):
    m = re.fullmatch(r"(\d+(?:\.\d+)?)(us|ms|s)", text)
    if not m:
        raise argparse.ArgumentTypeError("%s is not a duration such as 100ms" % text)
    return float(m[1]) * UNITS[m[2]]


def positive(text):
    n = int(text)
    if n < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return n


def percentile(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * p / 100))]


def parser(name, description):
    p = argparse.ArgumentParser(prog=name, description=description)
    p.add_argument("--build", required=True, help=argparse.SUPPRESS)
    p.add_argument("--dirty", type=size, default="5MB", help="memory the guest writes each 100 ms (5MB)")
    p.add_argument("--json", action="store_true", help="one line of JSON on stdout, the rest on stderr")
    return p


def main(p, measure, sentence):
    """measure(args, say) returns what the line of JSON, or the sentence made of it, says in the end."""
    args = p.parse_args()
    out = sys.stderr if args.json else sys.stdout
    try:
        result = measure(args, lambda text: print(text, file=out, flush=True))
    except LabError as e:
        print("%s: %s" % (p.prog, e), file=sys.stderr)
        return 2
    print(json.dumps(result) if args.json else sentence % result)
    return 0
