# SPDX-License-Identifier: GPL-2.0-or-later
"""Two of three hosts are lost at once: nobody left can know what the others do, so the survivor
holds, silent and with an alarm, for as long as it takes; and heals by itself when a majority is back.
The survivor is the primary, then the standby, then the voter without a copy."""
import time

from mclab.proc import now, wait_for
from mclab.scenario import run

HOLD_FOR = 3
# An epoch acknowledged just before may still be let out; nothing else may.
LAST_WORDS = 300e6


def lose(lab, *hosts):
    """All of them at one moment: the cables first, of which each takes as long as the kernel likes."""
    for h in hosts:
        lab.switch.links(h, False)
    at = now()
    for h in hosts:
        lab.poweroff(h)
    return at


def silent(report, lab, vm, watch, client, host, off, what):
    """Holds the check open for a while; returns what was seen."""
    status = wait_for(lambda: [s for s in [lab.status(host)] if s.get("alarm")], 10, "an alarm on " + host)[0]
    report.check("majority" in status["alarm"], "an alarm says what is missing" + what, status["alarm"])
    time.sleep(HOLD_FOR)
    status = lab.status(host)
    report.check(status["state"] in ("holding", "taking-over") and lab.qemu(host, vm), "it holds" + what, status)
    report.check(not lab.events[host].find("RUNNING", off), "and does not run" + what)
    report.check(client.last["last_answer"] < off + LAST_WORDS, "nothing is answered meanwhile" + what,
                 (client.last["last_answer"] - off) / 1e6)
    seen = watch.stop()
    late = {p["port"]: (p["last_ns"] - off) / 1e6 for p in seen["macs"][0]["ports"]
            if p["frames"] and p["last_ns"] > off + LAST_WORDS}
    report.check(not late and not seen["missed"], "not a frame of the VM is seen" + what, late or seen["missed"])


def healed(report, lab, vm, client, host, peer, back, off, what):
    watch = lab.watch(vm)
    lab.boot(back)
    running = lab.events[host].wait("RUNNING", 20, off)
    client.wait_answer_after(running["time"])
    client.wait_acked(20)
    status = lab.status(host)
    report.check(status["state"] in ("unprotected", "syncing", "protected") and not status.get("alarm"),
                 "a majority is back: it goes on by itself, the alarm is over" + what, status)
    lab.boot(peer)
    status = lab.wait_state(host, "vm1", "protected", 60)
    report.check(status["peer"] == peer, "and is protected again once the other copy's host is back" + what, status)
    client.wait_acked(10)
    report.client(client.stop(), what)
    report.watch(watch.stop(), vm, 0, what)


def survivor(report, lab, vm, host, peer, what):
    watch = lab.watch(vm)
    client = lab.start_client(vm, patience=60)
    client.wait_acked(20)
    off = lose(lab, peer, "hostC")
    silent(report, lab, vm, watch, client, host, off, what)
    healed(report, lab, vm, client, host, peer, "hostC", off, what)


def voter(report, lab, vm, active, standby):
    """Both copies are gone for good, with their hosts: that is a VM to be started anew, by a person."""
    off = lose(lab, active, standby)
    time.sleep(1)
    report.check(not lab.events["hostC"].find("RUNNING", off) and not lab.status("hostC"),
                 "the voter has nothing to run", lab.status("hostC"))
    lab.boot(active)
    lab.boot(standby)
    lab.wait_voters(active, 3)
    time.sleep(1)
    states = {h: lab.status(h)["state"] for h in (active, standby)}
    report.check(set(states.values()) == {"stopped"}, "nothing starts by itself after both copies are lost", states)
    report.refused("a fresh start that could throw a copy away says so",
                   lambda: lab.mcctl(active, "start", "vm1"), "WrongState")
    lab.mcctl(active, "start", "vm1", "--force")
    lab.wait_boot(vm, active, 0)
    lab.protect(vm, active, standby)
    client = lab.start_client(vm)
    client.wait_acked(10)
    report.client(client.stop(), " (started anew)")


def main(report, cluster):
    lab, vm = cluster.up(dirty=2_000_000)
    survivor(report, lab, vm, "hostA", "hostB", " (survivor: the primary)")
    if not report.failed:
        survivor(report, lab, vm, "hostB", "hostA", " (survivor: the standby)")
    if not report.failed:
        voter(report, lab, vm, "hostB", "hostA")


if __name__ == "__main__":
    run(main)
