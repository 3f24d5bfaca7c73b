# SPDX-License-Identifier: GPL-2.0-or-later
"""The same fault again and again, at the host that runs the VM: each host's copy is in turn the one to go on from."""
import time


def turns(report, lab, vm, n):
    """(active, standby, " (run 1 of n)") for each turn.  Between two the host that was lost boots, and protects what the
    other runs.  Ends with the first failure: its logs are the ones to read."""
    active, standby = "hostA", "hostB"
    for i in range(1, n + 1):
        yield active, standby, " (run %d of %d)" % (i, n)
        if report.failed:
            return
        if i < n:
            if not lab.hosts[active].up:
                lab.boot(active)
            active, standby = standby, active
            lab.wait_state(active, vm.name, "protected", 60)


def primary_lost(report, lab, vm, active, standby, wait, what):
    """Its host is powered off after some seconds of requests; the client, which was served on both, and is done."""
    watch = lab.watch(vm)
    client = lab.start_client(vm, think=1)
    client.wait_acked(5)
    time.sleep(wait)
    off = lab.poweroff(active)
    running = lab.events[standby].wait("RUNNING", 15, off)
    client.wait_answer_after(running["time"])
    client.wait_acked(5)
    summary = client.stop()
    report.client(summary, what)
    report.watch(watch.stop(), vm, 1, what)
    print("# %s: %.0f ms to running, longest silence %.0f ms, %d requests" % (
        what, (running["time"] - off) / 1e6, summary["stall_ms"], summary["acked"]), flush=True)
    return client
