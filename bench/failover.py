# SPDX-License-Identifier: GPL-2.0-or-later
"""bench/failover: the host of a protected guest under client load is powered off at a random moment;
once the survivor has protected the guest again, with the host that is back, it is its turn."""
import random
import sys
import time

import program
from mclab import Lab, LabError
from program import percentile

STEPS = (("suspected", "SUSPECTED"), ("vote won", "VOTE_WON"), ("device state loaded", "DEVICES_LOADED"))


def one_round(lab, vm, active, standby, wait):
    """{step: ms after the power-off}"""
    client = lab.start_client(vm, think=2)
    client.wait_acked(5)
    time.sleep(wait)
    off = lab.poweroff(active)
    running = lab.events[standby].wait("RUNNING", 15, off)
    client.wait_answer_after(running["time"])  # it does run
    summary = client.stop()
    if summary["lost"] or summary["reconnects"] or not summary["complete"]:
        raise LabError("the client: %s" % summary)
    found = {"running": running["time"]}
    for name, event in STEPS:
        e = lab.events[standby].find(event, off)
        if e:
            found[name] = e["time"]
    found["first answer"] = client.first_answer_after(running["time"])
    return {k: (v - off) / 1e6 for k, v in found.items()}


def measure(args, say):
    moments, rounds = random.Random(args.seed), []
    with Lab(args.build, keepalive=args.keep_alive, misses=args.misses, delay=args.delay) as lab:
        lab.add_hosts("hostA", "hostB", "hostC")
        lab.start_mcd()
        vm = lab.add_vm("vm1", dirty=args.dirty)
        active, standby = "hostA", "hostB"
        lab.start_vm(vm, active)
        lab.protect(vm, active, standby)
        lab.wait_state(active, "vm1", "protected", 60)
        for i in range(1, args.rounds + 1):
            r = one_round(lab, vm, active, standby, moments.uniform(0.2, 1.2))
            rounds.append(r)
            say("round %d: %s" % (i, ", ".join("%s %.0f ms" % (k, v) for k, v in sorted(r.items(), key=lambda x: x[1]))))
            if i < args.rounds:
                lab.boot(active)
                active, standby = standby, active
                lab.wait_state(active, "vm1", "protected", 60)
    for name in [s[0] for s in STEPS] + ["first answer"]:
        values = [r[name] for r in rounds if name in r]
        if values:
            say("%s: median %.0f ms, max %.0f ms" % (name, percentile(values, 50), max(values)))
    running = [r["running"] for r in rounds]
    return {"median_ms": round(percentile(running, 50), 1), "p99_ms": round(percentile(running, 99), 1),
            "min_ms": round(min(running), 1), "max_ms": round(max(running), 1)}


def main():
    p = program.parser("failover", "From a host's power-off to its guest running on the standby.")
    p.add_argument("--rounds", type=program.positive, default=20, help="how many hosts are lost (20)")
    p.add_argument("--keep-alive", default="20ms", help="time between keep-alives (20ms)")
    p.add_argument("--misses", type=program.positive, default=5, help="how many may be missed (5)")
    p.add_argument("--delay", default="100ms", help="time between checkpoints (100ms)")
    p.add_argument("--seed", type=int, default=1, help="of the moments of the power-offs (1)")
    return program.main(p, measure, "power-off to running: median %(median_ms).0f ms, p99 %(p99_ms).0f ms, "
                        "min %(min_ms).0f ms, max %(max_ms).0f ms")


if __name__ == "__main__":
    sys.exit(main())
