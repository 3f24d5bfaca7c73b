# SPDX-License-Identifier: GPL-2.0-or-later
"""Three hosts have a VM's disk, each from another time; then its guest powers off, or panics.  Only the
host that has the newest may start it without force, and there everything is."""
from mclab.proc import now
from mclab.quiet import check_disk, look
from mclab.scenario import run
from mclab.vm import Disk


def refused_elsewhere(report, lab, vm, what):
    for host in ("hostA", "hostC"):
        report.refused("%s may not start it from an older disk%s" % (host, what),
                       lambda: lab.mcctl(host, "start", vm.name), "NotOwner")


def start_again(report, lab, vm, clients, what):
    lab.start_vm(vm, "hostB")
    client = lab.start_client(vm, patience=60)
    clients.append(client)
    client.wait_acked(5)
    report.client(client.stop(), what)
    check_disk(report, lab, look(lab, vm, "hostB"), clients, what)


def ends(report, lab, vm, clients, word, what):
    lab.wait_state("hostB", vm.name, "protected", 60)
    client = lab.start_client(vm)
    clients.append(client)
    client.wait_acked(30)
    report.client(client.stop(), what)
    at = now()
    lab.ask(vm, word)
    lab.events["hostB"].wait("PROTECTION_ENDED", 30, at, why="guest-off")
    for host in ("hostB", "hostC"):
        lab.wait_state(host, vm.name, "stopped", 15)
    status = lab.status("hostB")
    report.check(status["owner"] == "hostB" and not status["standby"] and not status["alarm"],
                 "it stays the host's that has the newest disk" + what, status)
    refused_elsewhere(report, lab, vm, what)
    start_again(report, lab, vm, clients, what)


def main(report, cluster):
    lab, vm = cluster.up(protect=False, disk=Disk(megabytes=32), on_panic="stop")
    lab.write_vm("hostC", vm.name, vm.config())
    clients = [lab.start_client(vm)]
    lab.protect(vm, "hostA", "hostB")
    clients[0].wait_acked(10)
    off = lab.poweroff("hostA")
    running = lab.events["hostB"].wait("RUNNING", 15, off)
    clients[0].wait_answer_after(running["time"])
    report.client(clients[0].stop(), " (over to hostB)")
    lab.protect(vm, "hostB", "hostC")
    lab.boot("hostA")
    lab.wait_voters("hostA", 3)
    ends(report, lab, vm, clients, "POWEROFF", " (power-off)")
    lab.protect(vm, "hostB", "hostC")
    ends(report, lab, vm, clients, "PANIC", " (panic)")


if __name__ == "__main__":
    run(main)
