# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest whose requests are on its disk before it answers them; the primary's host is powered off at
a random moment, again and again, so that each host's copy is the one to go on from in turn.  After
each takeover the VM is stopped and its disk looked at from outside: the file system is clean, and
every acknowledged request of this and all former runs is there.

MCD_RUNS=20, MCD_SEED=number: how often, and the moments of an earlier run once more."""
import os
import random
import time

from mclab.quiet import check_disk, look
from mclab.scenario import QUICK, run
from mclab.vm import Disk


def one_run(report, lab, vm, clients, active, standby, wait, what):
    watch = lab.watch(vm)
    client = lab.start_client(vm, think=1)
    clients.append(client)
    client.wait_acked(5)
    time.sleep(wait)
    off = lab.poweroff(active)
    running = lab.events[standby].wait("RUNNING", 15, off)
    client.wait_answer_after(running["time"])
    client.wait_acked(5)
    summary = client.stop()
    report.client(summary, what)
    report.watch(watch.stop(), vm, 1, what)
    check_disk(report, lab, look(lab, vm, standby), clients, what)
    print("# %s: %.0f ms to running, longest silence %.0f ms, %d requests" % (
        what, (running["time"] - off) / 1e6, summary["stall_ms"], summary["acked"]), flush=True)


def main(report, cluster):
    runs = int(os.environ.get("MCD_RUNS") or (3 if QUICK else 20))
    seed = int(os.environ.get("MCD_SEED") or time.time_ns() & 0xffffffff)
    print("# MCD_SEED=%d" % seed, flush=True)
    moments = random.Random(seed)
    lab, vm = cluster.up(dirty=2_000_000, disk=Disk(megabytes=64))
    active, standby, clients = "hostA", "hostB", []
    for i in range(1, runs + 1):
        one_run(report, lab, vm, clients, active, standby, moments.uniform(0.2, 1.2), " (run %d of %d)" % (i, runs))
        if report.failed:
            return  # the logs of the first failure are the ones to read
        if i < runs:
            lab.boot(active)
            active, standby = standby, active
            lab.wait_state(active, "vm1", "protected", 60)
    report.check(True, "after every takeover the survivor is protected again by itself")


if __name__ == "__main__":
    run(main)
