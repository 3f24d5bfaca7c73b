# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest writes as fast as it can, and the standby takes nothing any more: its mcd stands still, or
the connection for the disk's writes alone is a black hole.  The guest waits no longer than for any
other lost standby, its writes go on, and the disk is protected again once that is over."""
import os
import signal
import time

from mclab.diskload import Load, disk_port
from mclab.proc import now
from mclab.quiet import check_disk, look
from mclab.scenario import run
from mclab.vm import Disk

# The ACK is overdue after 1.2 s (mcctl check prints it); the vote, a slow machine.
BOUND_MS = 3500


def black_hole(lab, port):
    lab.hosts["hostA"].run(["nft", "table ip hole { chain out { type filter hook output priority 0; tcp sport %d drop; }; }"
                            % port])


def stall(report, lab, vm, clients, begin, end, what):
    client = lab.start_client(vm, think=5)
    clients.append(client)
    load = Load(lab, vm, 8)
    client.wait_acked(20)
    at = now()
    begin()
    running = lab.events["hostA"].wait("RUNNING", 15, at)
    client.wait_answer_after(running["time"])
    time.sleep(1)
    end()
    status = lab.wait_state("hostA", "vm1", "protected", 60)
    client.wait_acked(20)
    rate = load.rate()
    summary = client.stop()
    report.client(summary, what)
    report.check(summary["stall_ms"] < BOUND_MS, "the guest waits no longer than for any lost standby" + what,
                 summary["stall_ms"])
    report.check(rate > 100, "its writes go on" + what, load.answer)
    report.check(status["peer"] == "hostB" and not status.get("alarm"), "it is protected again" + what, status)
    print("#%s: unprotected after %.0f ms, longest silence %.0f ms, %.0f writes/s" % (
        what, (running["time"] - at) / 1e6, summary["stall_ms"], rate), flush=True)


def main(report, cluster):
    # A quarter of max-buffer is for disk writes: full at once.
    lab, vm = cluster.up(max_buffer="16MiB", disk=Disk(megabytes=64))
    clients = []
    port = disk_port(lab)
    stall(report, lab, vm, clients, lambda: black_hole(lab, port),
          lambda: lab.hosts["hostA"].run(["nft", "delete", "table", "ip", "hole"]),
          " (the disks' connection is a black hole)")
    h = lab.hosts["hostB"]
    pid = h.inner(h.mcd)
    stall(report, lab, vm, clients, lambda: os.kill(pid, signal.SIGSTOP),
          lambda: [os.kill(p, signal.SIGCONT) for p in (h.mcd.pid, pid)],  # nsenter stopped with its child
          " (the standby's mcd stands still)")
    off = lab.poweroff("hostA")
    lab.events["hostB"].wait("RUNNING", 15, off)
    check_disk(report, lab, look(lab, vm, "hostB"), clients, " (taken over)")


if __name__ == "__main__":
    run(main)
