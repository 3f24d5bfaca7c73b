# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's kernel panics and its pvpanic device says so: on-panic = reboot, stop or hold."""
import time

from mclab.proc import now, wait_for
from mclab.scenario import run


def panic(report, lab, vm, host, policy):
    """Fresh from its start; returns the moment."""
    if vm.on_panic != policy:
        vm.on_panic = policy
        for h in ("hostA", "hostB"):
            lab.write_vm(h, vm.name, vm.config())
        lab.start_vm(vm, host)
    lab.protect(vm, host, "hostB")
    client = lab.start_client(vm)
    client.wait_acked(20)
    report.client(client.stop(), " (%s)" % policy)
    at = now()
    answer = lab.ask(vm, "PANIC")
    report.check(answer.startswith("BYE"), "what it said last is heard (%s)" % policy, answer)
    lab.events[host].wait("GUEST_PANICKED", 15, at, action=policy)
    return at


def no_failover(report, lab, at, policy):
    ran = [h for h in lab.hosts if lab.hosts[h].up and lab.events[h].find("RUNNING", at)]
    report.check(not ran, "a panic is no reason to take over (%s)" % policy, ran)


def reboots(report, lab, vm):
    at = panic(report, lab, vm, "hostA", "reboot")
    lab.wait_boot(vm, "hostA", 1)
    client = lab.start_client(vm)
    client.wait_acked(20)
    report.client(client.stop(), " (after the reboot)")
    status = lab.status("hostA")
    report.check(status["state"] == "protected" and not lab.events["hostA"].find("STATE_CHANGED", at)
                 and not status.get("alarm"), "it boots again, protected all the time", status)
    no_failover(report, lab, at, "reboot")
    lab.mcctl("hostA", "stop", "vm1", "--force")


def stops(report, lab, vm):
    at = panic(report, lab, vm, "hostA", "stop")
    for h in ("hostA", "hostB"):
        lab.wait_state(h, "vm1", "stopped", 15)
        wait_for(lambda: lab.qemu(h, vm) is None, 5, "no QEMU on " + h)
    report.check(not lab.status("hostA")["owner"], "it is stopped on all hosts, as if it had powered off")
    no_failover(report, lab, at, "stop")


def holds(report, lab, vm):
    at = panic(report, lab, vm, "hostA", "hold")
    qemu = lab.qemu("hostA", vm)
    status = wait_for(lambda: [s for s in [lab.status("hostA")] if s.get("alarm")], 5, "an alarm")[0]
    report.check("panicked" in status["alarm"] and "stop" in status["alarm"],
                 "the alarm says what happened and what to do", status)
    time.sleep(2)
    status = lab.status("hostA")
    report.check(status["state"] == "protected" and lab.qemu("hostA", vm) == qemu and status.get("alarm"),
                 "it is kept for a look, still protected", status)
    report.check(vm.serial(lab.hosts["hostA"]).count("READY") == 1, "it does not run on")
    no_failover(report, lab, at, "hold")

    off = lab.poweroff("hostB")
    lab.events["hostA"].wait("RUNNING", 15, off)
    status = lab.status("hostA")
    report.check("panicked" in status.get("alarm", ""), "the alarm outlives the loss of the standby", status)
    report.check(vm.serial(lab.hosts["hostA"]).count("READY") == 1, "and it does not run on")
    lab.boot("hostB")
    lab.wait_state("hostA", "vm1", "protected", 60)

    off = lab.poweroff("hostA")
    lab.events["hostB"].wait("RUNNING", 15, off)
    time.sleep(1)
    status = lab.status("hostB")
    report.check("panicked" in status.get("alarm", "") and lab.qemu("hostB", vm)
                 and "READY" not in vm.serial(lab.hosts["hostB"]),
                 "after a takeover it is kept at the other host, with the alarm", status)
    lab.mcctl("hostB", "stop", "vm1", "--force")
    lab.wait_state("hostB", "vm1", "stopped", 10)
    lab.start_vm(vm, "hostB")
    client = lab.start_client(vm)
    client.wait_acked(10)
    report.client(client.stop(), " (started again)")
    report.check(not lab.status("hostB").get("alarm"), "and the alarm is over")


def main(report, cluster):
    lab, vm = cluster.up(protect=False, dirty=1_000_000, on_panic="reboot")
    reboots(report, lab, vm)
    stops(report, lab, vm)
    holds(report, lab, vm)


if __name__ == "__main__":
    run(main)
