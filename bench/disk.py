# SPDX-License-Identifier: GPL-2.0-or-later
"""bench/disk: everything that is compared is measured in turn, round after round, so that a machine
that gets slower or faster meanwhile does not decide a ratio.

Operations are counted inside the guest and divided by our time, in which the guest's pauses are and
its own clock's time is not.  A protected guest's answer comes with its epoch, up to a delay late:
that counts against the protected one."""
import statistics
import sys
import threading
import time

import program
from mclab import Lab, LabError
from mclab.proc import wait_for
from mclab.vm import Disk

KINDS = ("fsync", "write")


def bench(lab, vm, kind, seconds):
    """Operations a second."""
    began = time.monotonic()
    words = lab.ask(vm, "DISKBENCH %s %d" % (kind, seconds * 1000), seconds * 4 + 30).split()
    if len(words) != 4 or words[0] != "BENCH":
        raise LabError("the guest measured nothing: " + " ".join(words))
    return int(words[2]) / (time.monotonic() - began)


def protect(lab, delay):
    lab.mcctl("hostA", "protect", "vm1", "--peer", "hostB", "--delay", "%gms" % delay)


def unprotect(lab):
    status = lab.status("hostA")
    if status["state"] != "protected":
        raise LabError("vm1 is %s: %s" % (status["state"], status["reason"]))
    lab.mcctl("hostA", "unprotect", "vm1")
    wait_for(lambda: lab.status("hostA")["state"] == "unprotected", 10, "unprotected")
    return status


def pause(lab, vm, args, load):
    """The status of a protected time of its own."""
    protect(lab, args.delay)
    if load:
        # Not before it is protected, or the synchronisation would be under load, too.
        worker = threading.Thread(target=bench, args=(lab, vm, "write", args.seconds + 1))
        worker.start()
        time.sleep(args.seconds)
        status = lab.status("hostA")
        worker.join()
        unprotect(lab)
        return status
    time.sleep(args.seconds)
    return unprotect(lab)


def figures(status):
    steps = ", ".join("%s %.2f" % (k, v["p50_ms"]) for k, v in status["steps"].items())
    return "pause %.2f ms, p99 %.2f of %d; dirty %.1f MB (%s)" % (
        status["pause"]["p50_ms"], status["pause"]["p99_ms"], status["pause"]["count"],
        status["dirty"]["p50_bytes"] / 1e6, steps)


def one_round(lab, vm, args, found, say):
    for kind in KINDS:
        found[kind, False].append(bench(lab, vm, kind, args.seconds))
    protect(lab, args.delay)
    for kind in KINDS:
        found[kind, True].append(bench(lab, vm, kind, args.seconds))
    unprotect(lab)
    for kind in KINDS:
        say("%s: %.0f/s unprotected, %.0f/s protected" % (kind, found[kind, False][-1], found[kind, True][-1]))
    for load in (False, True):
        status = pause(lab, vm, args, load)
        found["pause", load].append(status["pause"]["p50_ms"])
        say("disk %s: %s" % ("under load" if load else "idle", figures(status)))


def measure(args, say):
    found = {(k, x): [] for k in KINDS + ("pause",) for x in (False, True)}
    with Lab(args.build) as lab:
        lab.add_hosts("hostA", "hostB", "hostC")
        lab.start_mcd()
        vm = lab.add_vm("vm1", dirty=args.dirty, disk=Disk(megabytes=64, durability=args.durability))
        lab.start_vm(vm, "hostA")
        for _ in range(args.rounds):
            one_round(lab, vm, args, found, say)
    m = {k: statistics.median(v) for k, v in found.items()}
    return {"fsync_ratio": round(m["fsync", True] / m["fsync", False], 3),
            "write_ratio": round(m["write", True] / m["write", False], 3),
            "fsync_per_s": round(m["fsync", False]), "fsync_protected_per_s": round(m["fsync", True]),
            "write_per_s": round(m["write", False]), "write_protected_per_s": round(m["write", True]),
            "pause_ms": round(m["pause", False], 3), "pause_disk_ms": round(m["pause", True], 3),
            "pause_ratio": round(m["pause", True] / m["pause", False], 3)}


def main():
    p = program.parser("disk", "What mirroring costs a guest that writes to its disk.")
    p.add_argument("--delay", type=program.milliseconds, default="100ms", help="time between checkpoints (100ms)")
    p.add_argument("--seconds", type=int, default=6, help="how long to measure each (6)")
    p.add_argument("--rounds", type=int, default=3, help="how often (3)")
    p.add_argument("--durability", choices=("flush", "commit", "none"), help="disk-durability (flush)")
    return program.main(p, measure, "fsync: %(fsync_ratio).2f, write: %(write_ratio).2f of the unprotected guest; "
                        "pause: %(pause_ratio).2f of that with an idle disk")


if __name__ == "__main__":
    sys.exit(main())
