# SPDX-License-Identifier: GPL-2.0-or-later
"""What is not a lost host, with a disk: mcd is restarted or killed on either side, QEMU dies on either
side, the guest reboots.  Each time the disk is whole and protected again, and in the end it is taken
over."""
import os
import signal

from mclab.proc import now, wait_for
from mclab.quiet import check_disk, look
from mclab.scenario import run
from mclab.vm import Disk


class Story:
    def __init__(self, report, lab, vm):
        self.report, self.lab, self.vm = report, lab, vm
        self.active, self.standby = "hostA", "hostB"
        self.clients = []

    def protected(self):
        """Wherever it runs now, it is protected by the other one."""
        def found():
            for a, b in (("hostA", "hostB"), ("hostB", "hostA")):
                s = self.lab.status(a, self.vm.name)
                if s.get("role") == "primary" and s.get("state") == "protected":
                    self.active, self.standby = a, b
                    return s
            return None
        return wait_for(found, 60, "the VM is protected", 0.1)

    def chapter(self, title, act):
        client = self.lab.start_client(self.vm, think=2, patience=60)
        self.clients.append(client)
        client.wait_acked(10)
        before = self.active
        act()
        self.protected()
        client.wait_acked(10)
        self.report.client(client.stop(), " (%s)" % title)
        disk = look(self.lab, self.vm, self.active)
        check_disk(self.report, self.lab, disk, self.clients, " (%s)" % title)
        print("# %s: %s" % (title, "it went on in place" if self.active == before else "taken over"), flush=True)

    def restart(self, host):
        self.lab.stop_mcd(host)
        self.lab.start_mcd(host)

    def kill(self, host):
        self.lab.kill_mcd(host)
        self.lab.start_mcd(host)

    def crash(self, host):
        at, old = now(), self.lab.qemu(host, self.vm)
        os.kill(old, signal.SIGKILL)
        if host == self.active:
            self.lab.events[self.standby].wait("RUNNING", 15, at)
        else:
            wait_for(lambda: self.lab.qemu(host, self.vm) not in (None, old), 15, "another QEMU waits")

    def reboot(self):
        """The clients' connection does not outlive this."""
        booted = self.lab.boots(self.vm, self.active)
        self.lab.ask(self.vm, "REBOOT")
        self.lab.wait_boot(self.vm, self.active, booted)


def main(report, cluster):
    lab, vm = cluster.up(disk=Disk(megabytes=32))
    s = Story(report, lab, vm)
    s.chapter("the standby's mcd is restarted", lambda: s.restart(s.standby))
    s.chapter("the standby's mcd is killed", lambda: s.kill(s.standby))
    s.chapter("the primary's mcd is restarted", lambda: s.restart(s.active))
    s.chapter("the primary's mcd is killed", lambda: s.kill(s.active))
    s.chapter("the standby's QEMU is killed", lambda: s.crash(s.standby))
    s.chapter("the primary's QEMU is killed", lambda: s.crash(s.active))
    if report.failed:
        return
    s.reboot()
    report.check(lab.status(s.active)["state"] == "protected", "a reboot is no failure", lab.status(s.active))
    s.chapter("after a reboot", lambda: None)
    off = lab.poweroff(s.active)
    lab.events[s.standby].wait("RUNNING", 15, off)
    check_disk(report, lab, look(lab, vm, s.standby), s.clients, " (taken over)")


if __name__ == "__main__":
    run(main)
