# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest powers off: its own will, no failure.  Its last words are heard, nobody takes over, both
copies go, nobody owns it any more, and it can be started anywhere."""
import time

from mclab.proc import now, wait_for
from mclab.scenario import run

HOSTS = ("hostA", "hostB")


def all_over(lab, vm, hosts=HOSTS):
    for h in hosts:
        lab.wait_state(h, "vm1", "stopped", 15)
        wait_for(lambda: lab.qemu(h, vm) is None, 5, "no QEMU on " + h)


def nobody_takes_over(report, lab, at, what):
    ran = [h for h in lab.hosts if lab.events[h].find("RUNNING", at)]
    report.check(not ran, "nobody takes over" + what, ran)


def nobody_has_it(report, lab, vm, what, hosts=HOSTS):
    all_over(lab, vm, hosts)
    time.sleep(1.5)  # time for somebody to take over who wants to
    for h in hosts:  # the record is given up with the majority's word, which may take its time
        wait_for(lambda: not lab.status(h)["owner"], 15, "%s knows no owner" % h)
    status = {h: lab.status(h) for h in hosts}
    report.check(all(s["state"] == "stopped" and not s.get("alarm") for s in status.values()),
                 "it is stopped everywhere, without an owner or an alarm" + what, status)


def power_off(report, lab, vm, what):
    client = lab.start_client(vm)
    client.wait_acked(20)
    report.client(client.stop(), what)
    last = client.summary["acked"]
    at = now()
    answer = lab.ask(vm, "POWEROFF")
    report.check(answer.startswith("BYE") and int(answer.split()[1]) >= last, "its last words are heard" + what, answer)
    return at


def protected(report, lab, vm):
    what = " (protected)"
    watch = lab.watch(vm)
    at = power_off(report, lab, vm, what)
    nobody_has_it(report, lab, vm, what)
    nobody_takes_over(report, lab, at, what)
    report.check(lab.events["hostB"].find("DISCARDED", at), "the standby discards its copy" + what)
    report.watch(watch.stop(), vm, 0, what)


def host_lost(report, lab, vm):
    """The primary's host goes with it.  The standby's copy has said the same last words, or is about
    to, and powers off by itself."""
    what = " (host lost)"
    watch = lab.watch(vm)
    power_off(report, lab, vm, what)
    lab.poweroff("hostB")
    nobody_has_it(report, lab, vm, what, ("hostA",))
    seen = watch.stop()
    report.check(not seen["visible_twice"], "it is visible at one host at a time" + what, seen)
    lab.boot("hostB")
    lab.wait_heard("hostA", "hostB")
    lab.wait_voters("hostB", 3)
    report.check(lab.status("hostB").get("state", "stopped") == "stopped", "it stays off when the host is back" + what,
                 lab.status("hostB"))


def main(report, cluster):
    lab, vm = cluster.up(dirty=2_000_000)
    protected(report, lab, vm)

    lab.start_vm(vm, "hostB")
    report.check(lab.status("hostB")["state"] == "unprotected", "it can be started on the other host")
    at = power_off(report, lab, vm, " (unprotected)")
    nobody_has_it(report, lab, vm, " (unprotected)")
    nobody_takes_over(report, lab, at, " (unprotected)")

    lab.start_vm(vm, "hostB")
    lab.protect(vm, "hostB", "hostA")
    host_lost(report, lab, vm)
    lab.start_vm(vm, "hostA")
    lab.protect(vm, "hostA", "hostB")
    client = lab.start_client(vm)
    client.wait_acked(10)
    report.client(client.stop(), " (started and protected again)")


if __name__ == "__main__":
    run(main)
