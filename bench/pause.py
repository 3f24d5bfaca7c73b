# SPDX-License-Identifier: GPL-2.0-or-later
"""bench/pause: the floor is measured before and after the protected time, so that a machine that
gets slower or faster meanwhile does not decide the ratio."""
import json
import sys
import time

import program
from mclab import Lab, LabError
from mclab.proc import run, wait_for
from program import percentile


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
    p = program.parser("pause", "The pause of an epoch against the floor.")
    p.add_argument("--delay", type=program.milliseconds, default="100ms", help="time between checkpoints (100ms)")
    p.add_argument("--seconds", type=float, default=20, help="how long to measure each (20)")
    return program.main(p, measure, "ratio: %(ratio).2f")


if __name__ == "__main__":
    sys.exit(main())
