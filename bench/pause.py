# SPDX-License-Identifier: GPL-2.0-or-later
"""bench/pause: the floor is measured before and after the protected time, so that a machine that
gets slower or faster meanwhile does not decide the ratio."""
import argparse
import json
import re
import sys
import time

from mclab import Lab, LabError
from mclab.demo import size
from mclab.proc import run, wait_for

UNITS = {"us": 0.001, "ms": 1, "s": 1000}


def milliseconds(text):
    m = re.fullmatch(r"(\d+(?:\.\d+)?)(us|ms|s)", text)
    if not m:
        raise argparse.ArgumentTypeError("%s is not a duration such as 100ms" % text)
    return float(m[1]) * UNITS[m[2]]


def percentile(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * p / 100))]


def floor(lab, host, delay, seconds):
    out = run([lab.tool("bench/qmpfloor"), "--socket", host.path("run/vm1-user.qmp"), "--file", "/dev/shm/floor",
               "--delay", str(delay), "--seconds", str(seconds)], timeout=seconds + 30)
    return [json.loads(line) for line in out.splitlines()]


def measure(args, say):
    with Lab(args.build) as lab:
        lab.add_hosts("hostA", "hostB", "hostC")
        lab.start_mcd()
        vm = lab.add_vm("vm1", dirty=args.dirty)
        lab.start_vm(vm, "hostA")
        host = lab.hosts["hostA"]
        time.sleep(1)  # the guest settles
        samples = floor(lab, host, args.delay, args.seconds / 2)
        lab.mcctl("hostA", "protect", "vm1", "--peer", "hostB", "--delay", "%gms" % args.delay)
        time.sleep(args.seconds)
        status = lab.status("hostA")
        if status["state"] != "protected":
            raise LabError("vm1 is %s: %s" % (status["state"], status["reason"]))
        lab.mcctl("hostA", "unprotect", "vm1")
        wait_for(lambda: lab.status("hostA")["state"] == "unprotected", 10, "unprotected")
        samples += floor(lab, host, args.delay, args.seconds / 2)
    base = percentile([s["total_ms"] for s in samples], 50)
    say("floor: median %.2f ms, p99 %.2f ms of %d (stop %.2f, save %.2f, cont %.2f)" % (
        base, percentile([s["total_ms"] for s in samples], 99), len(samples),
        *(percentile([s[k] for s in samples], 50) for k in ("stop_ms", "save_ms", "cont_ms"))))
    pause = status["pause"]
    say("pause: median %.2f ms, p99 %.2f ms of %d (%s)" % (
        pause["p50_ms"], pause["p99_ms"], pause["count"],
        ", ".join("%s %.2f" % (k, v["p50_ms"]) for k, v in status["steps"].items())))
    say("dirty: median %.2f MB an epoch" % (status["dirty"]["p50_bytes"] / 1e6))
    return {"floor_ms": round(base, 3), "pause_ms": round(pause["p50_ms"], 3),
            "pause_p99_ms": round(pause["p99_ms"], 3), "ratio": round(pause["p50_ms"] / base, 3)}


def main():
    p = argparse.ArgumentParser(prog="pause", description="The pause of an epoch against the floor.")
    p.add_argument("--build", required=True, help=argparse.SUPPRESS)
    p.add_argument("--dirty", type=size, default="5MB", help="memory the guest writes each 100 ms (5MB)")
    p.add_argument("--delay", type=milliseconds, default="100ms", help="time between checkpoints (100ms)")
    p.add_argument("--seconds", type=float, default=20, help="how long to measure each (20)")
    p.add_argument("--json", action="store_true", help="one line of JSON on stdout, the rest on stderr")
    args = p.parse_args()
    out = sys.stderr if args.json else sys.stdout
    try:
        result = measure(args, lambda text: print(text, file=out, flush=True))
    except LabError as e:
        print("pause: %s" % e, file=sys.stderr)
        return 2
    print(json.dumps(result) if args.json else "ratio: %.2f" % result["ratio"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
