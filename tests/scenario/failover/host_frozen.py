# SPDX-License-Identifier: GPL-2.0-or-later
"""A whole host is frozen for 5 s and wakes up without knowing it: the voter, the standby, the primary."""
import sys
import time

from mclab.proc import now
from mclab.scenario import run

FROZEN_FOR = 5


def freeze(lab, host, meanwhile):
    at = now()
    lab.hosts[host].freezer.freeze()
    try:
        meanwhile(at)
        time.sleep(max(0, FROZEN_FOR - (now() - at) / 1e9))
    finally:
        lab.hosts[host].freezer.thaw()
    return at, now()


def voter(report, lab, vm, client):
    at, _ = freeze(lab, "hostC", lambda _: client.wait_acked(30, timeout=60))
    lab.wait_heard("hostA", "hostC")
    changed = [h for h in ("hostA", "hostB") if lab.events[h].find("STATE_CHANGED", at)]
    report.check(not changed, "a frozen voter changes nothing", changed)


def standby(report, lab, vm, client):
    def meanwhile(at):
        running = lab.events["hostA"].wait("RUNNING", 15, at)
        client.wait_answer_after(running["time"])
        client.wait_acked(20)
    at, thawed = freeze(lab, "hostB", meanwhile)
    lab.events["hostB"].wait("DISCARDED", 15, thawed)
    report.check(not lab.events["hostB"].find("RUNNING", at), "a standby that wakes up does not run its old copy")
    lab.wait_state("hostA", "vm1", "protected", 60)
    report.check(lab.status("hostA")["peer"] == "hostB", "it becomes the standby again")


def primary(report, lab, vm, client):
    def meanwhile(at):
        running = lab.events["hostB"].wait("RUNNING", 15, at)
        client.wait_answer_after(running["time"])
        client.wait_acked(20)
        report.check(running["time"] - at < 3e9, "the standby goes on while the primary is frozen",
                     (running["time"] - at) / 1e6)
    at, thawed = freeze(lab, "hostA", meanwhile)
    gone = lab.events["hostA"].wait("DISCARDED", 15, thawed)
    report.check(not lab.events["hostA"].find("RUNNING", at), "a primary that wakes up never runs on")
    lab.wait_state("hostB", "vm1", "protected", 60)
    report.check(lab.status("hostB")["peer"] == "hostA", "it becomes the standby of its former standby")
    print("# destroyed its copy %.0f ms after it woke up" % ((gone["time"] - thawed) / 1e6), flush=True)


def main(report, cluster):
    lab, vm = cluster.up(dirty=2_000_000)
    if not lab.hosts["hostA"].freezer.dir:
        print("no cgroup freezer on this machine")
        sys.exit(77)
    watch = lab.watch(vm)
    client = lab.start_client(vm)
    client.wait_acked(10)
    for row in (voter, standby, primary):
        row(report, lab, vm, client)
        client.wait_acked(10)
    report.client(client.stop())
    seen = watch.stop()
    report.watch(seen, vm, 1)
    ports = {p["port"]: p for p in seen["macs"][0]["ports"]}
    report.check(ports["hostA"]["last_ns"] < ports["hostB"]["first_ns"],
                 "nothing of the VM leaves the host that was frozen after it is seen at the other", ports)


if __name__ == "__main__":
    run(main)
