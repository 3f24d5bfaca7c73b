# SPDX-License-Identifier: GPL-2.0-or-later
"""A standby that holds the cluster key and is broken or hostile: each misdeed ends the protection with a reason,
soon, and the VM runs on in the same QEMU.  What a lying standby acknowledges opens nothing: only the vote does.

mclab/evil.py has the misdeeds.  What takes long happens to VMs of its own, beside the rest."""
import os
import time

from mclab import evil
from mclab.control import CommandError
from mclab.proc import now, wait_for
from mclab.scenario import QUICK, run


def wait_unheard(lab, host, peer):
    """What was heard of the last one there is no longer taken for the next one."""
    wait_for(lambda: not any(h["name"] == peer and h.get("keepalive", {}).get("up")
                             for h in lab.mcctl(host, "status")["hosts"]), 5, "%s no longer hears %s" % (host, peer))


def frames(path, begin, end):
    """Frames seen at the switch between two moments."""
    with open(path, encoding="ascii") as f:
        return [line.strip() for line in f if begin < int(line.split()[0]) < end]


def protect(lab, vm):
    """(class, sentence) of the refusal, and how long it took."""
    began = time.monotonic()
    try:
        lab.mcctl("hostA", "protect", vm, "--peer", "hostB")
        cls, message = "", "it was accepted"
    except CommandError as e:
        cls, message = e.cls, e.message
    return cls, message, time.monotonic() - began


def before_it_is_protected(misdeed):
    return misdeed.name.startswith(("hello-", "sync-", "first-"))


def refused(report, lab, standby, misdeed, began, refusal, vm="vm1"):
    """It showed itself before the VM was protected: `mcctl protect` says why."""
    cls, message, took = refusal
    report.check(cls == misdeed.cls and len(message) > 10 and took <= misdeed.bound + 3,
                 "protect by a standby that does wrong is refused: %s" % misdeed.name, (refusal, "wanted %s" % misdeed.cls))
    answer = standby.answer(misdeed.name)
    report.check(answer["took_ms"] <= misdeed.limit_ms, "its connection is closed in time: %s" % misdeed.name, answer)
    if misdeed.cls == "ProtocolError":
        report.check(evil.happens(lab, "hostA", "PROTOCOL_ERROR", began, vm=vm), "an event says so: %s" % misdeed.name)


def unprotected(report, lab, vm, standby, misdeed):
    """It shows itself to a VM that is protected: held output waits for the vote."""
    log = os.path.join(lab.dir, "frames-%s" % misdeed.name)
    watch = lab.watch(vm, log=log)
    began = now()
    lab.protect(vm, "hostA", "hostB")
    running = lab.events["hostA"].wait("RUNNING", 15, began, vm="vm1")
    answer = standby.answer(misdeed.name)
    won = lab.events["hostA"].find("VOTE_WON", answer["at"], vm="vm1")
    lost = lab.events["hostA"].find("PROTECTION_ENDED", began, vm="vm1")
    time.sleep(0.2)
    watch.stop()
    report.check(answer["end"] == "closed" and answer["took_ms"] <= 2000 and lost and len(lost["data"]["reason"]) > 10,
                 "a standby's misdeed ends the protection with its reason: %s" % misdeed.name, (answer, lost))
    report.check(won and won["time"] < running["time"], "the VM goes on alone only after a won vote: %s" % misdeed.name, won)
    honest = misdeed.epoch or evil.LATER - 1
    report.check(running["data"]["epoch"] == honest,
                 "the last epoch that counts is the last honest one: %s" % misdeed.name, running)
    if won and honest < evil.LATER:
        seen = frames(log, answer["at"] + 5_000_000, won["time"])
        report.check(frames(log, 0, answer["at"]), "what leaves is seen: %s" % misdeed.name)
        report.check(not seen, "nothing leaves between the misdeed and the vote: %s" % misdeed.name, seen[:3])
    lab.mcctl("hostA", "unprotect", "vm1")  # or it would be protected again by the next one


def one_after_another(report, lab, vm, client, standby, misdeeds):
    for misdeed in misdeeds:
        standby.do(misdeed.name)
        if before_it_is_protected(misdeed):
            began = now()
            refused(report, lab, standby, misdeed, began, protect(lab, "vm1"))
        else:
            unprotected(report, lab, vm, standby, misdeed)
        status = lab.wait_state("hostA", "vm1", "unprotected", 5)  # after a vote, if one was needed
        report.check(not status["held_bytes"] and not status["alarm"],
                     "the VM runs on unprotected: %s" % misdeed.name, status)
        client.wait_acked(3)


def main(report, cluster):
    lab, vm = cluster.up(dirty=1_000_000)
    lab.mcctl("hostA", "unprotect", "vm1")
    misdeeds = evil.misdeeds(lab, "standby")
    slow = [] if QUICK else [m for m in misdeeds if m.aside]
    for m in slow:
        lab.add_vm(m.aside, memory=128, region=16)
        lab.mcctl("hostA", "start", m.aside)
    client = lab.start_client(vm)
    client.wait_acked(10)

    def untouched():
        return lab.qemu("hostA", vm), lab.hosts["hostA"].inner(lab.hosts["hostA"].mcd)
    before = untouched()
    lab.stop_mcd("hostB")
    wait_unheard(lab, "hostA", "hostB")
    standby = evil.EvilStandby(lab, "hostB")
    lab.wait_heard("hostA", "hostB")
    began = now()
    for m in slow:
        standby.do(m.name, m.aside)
    asides = [evil.Aside(protect, lab, m.aside) for m in slow]
    one_after_another(report, lab, vm, client, standby, [m for m in misdeeds if not m.aside])
    for misdeed, aside in zip(slow, asides):
        refused(report, lab, standby, misdeed, began, aside.result(), misdeed.aside)
    report.check(untouched() == before, "the primary's QEMU and mcd are the same all the time")
    standby.end()
    wait_unheard(lab, "hostA", "hostB")
    lab.start_mcd("hostB")
    lab.wait_heard("hostA", "hostB")

    lab.protect(vm, "hostA", "hostB")
    off = lab.poweroff("hostA")
    running = lab.events["hostB"].wait("RUNNING", 15, off)
    client.wait_answer_after(running["time"])
    client.wait_acked(5)
    report.client(client.stop(), " after all that, and a real takeover")


if __name__ == "__main__":
    run(main)
