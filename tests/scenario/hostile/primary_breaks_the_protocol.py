# SPDX-License-Identifier: GPL-2.0-or-later
"""A primary that holds the cluster key and is broken or hostile: each misdeed ends the connection with a reason,
soon, and nothing else ends: not the standby's mcd, not the VM, not the client's connection.

mclab/evil.py has the misdeeds.  What takes long happens to VMs of its own, at hostC, beside the rest."""
from mclab import evil
from mclab.proc import now, wait_for
from mclab.scenario import QUICK, run


def reason(lab, host, vm, began, answer):
    """(class, sentence) of why the host closed the connection: what it answered, or what it told its own."""
    if answer["message"]:
        return answer["class"], answer["message"]
    in_order = lab.events[host].find("PROTECTION_ENDED", began, vm=vm)
    lost = in_order or evil.happens(lab, host, "LINK_LOST", began, vm=vm)
    breach = lab.events[host].find("PROTOCOL_ERROR", began, vm=vm)  # it comes first
    said = breach or lost
    return "ProtocolError" if breach else "PeerUnreachable", said["data"]["reason"] if said else ""


def judge(report, lab, misdeed, began, answer, host="hostB", vm="vm1"):
    cls, why = reason(lab, host, vm, began, answer)
    if misdeed.cls == "WrongVersion":  # it is told to its own only, as what it is
        cls = "WrongVersion" if "version 99" in why else cls
    good = answer["end"] != "open" and answer["took_ms"] <= misdeed.limit_ms and len(why) > 10 and misdeed.cls in ("", cls)
    report.check(good, "a primary's misdeed ends the connection with its reason: %s" % misdeed.name,
                 (answer, cls, why, "wanted %s" % misdeed.cls))
    if misdeed.cls == "ProtocolError":
        report.check(evil.happens(lab, host, "PROTOCOL_ERROR", began, vm=vm), "an event says so: %s" % misdeed.name)
    report.check(lab.events[host].find("RUNNING", began, vm=vm) is None, "it does not run there: %s" % misdeed.name)


def one_after_another(report, lab, vm, client):
    host = lab.hosts["hostB"]
    daemon = host.inner(host.mcd)
    for misdeed in evil.misdeeds(lab, "primary"):
        if misdeed.aside:
            continue
        began = now()
        judge(report, lab, misdeed, began, evil.as_primary(lab, misdeed.name))
        if not misdeed.image:  # which is kept until it is certain that no record names the standby
            evil.nothing_left(report, lab, "hostB", "the standby keeps nothing of it: %s" % misdeed.name, 3, vm)
        client.wait_acked(1)
        if host.mcd.poll() is not None:
            report.check(False, "mcd survives %s" % misdeed.name, lab.log_tail("hostB", 5))
            return
    report.check(host.inner(host.mcd) == daemon, "the standby's mcd is the same all the time")


class Slow:
    """Silence, and a whole image that is never named: all at once, to hostC."""

    def __init__(self, lab):
        self.lab, self.began = lab, now()
        self.daemon = lab.hosts["hostC"].inner(lab.hosts["hostC"].mcd)
        self.misdeeds = [] if QUICK else [m for m in evil.misdeeds(lab, "primary") if m.aside]
        self.vms = [lab.add_vm(m.aside, ("hostA", "hostC"), memory=128, region=16) for m in self.misdeeds]
        for vm in self.vms:
            lab.mcctl("hostA", "start", vm.name)
        self.asides = [evil.Aside(self._run, m, vm) for m, vm in zip(self.misdeeds, self.vms)]

    def _run(self, misdeed, vm):
        answer = evil.as_primary(self.lab, misdeed.name, peer="hostC", vm=vm.name)
        return answer, self.lab.qemu("hostC", vm)

    def end(self, report):
        for misdeed, aside in zip(self.misdeeds, self.asides):
            answer, kept = aside.result()
            judge(report, self.lab, misdeed, self.began, answer, "hostC", misdeed.aside)
            if misdeed.image:
                report.check(kept, "a whole image is kept as long as it may be needed", kept)
        evil.nothing_left(report, self.lab, "hostC", "in the end a standby keeps nothing, not even a whole image that "
                          "nobody names it for", 20, *self.vms)
        report.check(self.lab.hosts["hostC"].inner(self.lab.hosts["hostC"].mcd) == self.daemon,
                     "that standby's mcd is the same all the time")


def no_right_to(report, lab):
    answer = evil.as_primary(lab, "correct-hello", "hostC")
    report.check(answer["class"] == "NotOwner", "a host that does not own the VM cannot offer it", answer)
    answer = evil.as_primary(lab, "correct-hello", "hostC", "hostA")
    report.check(answer["class"] == "WrongState", "a VM that runs here is not taken as a standby's", answer)


def against_protected(report, lab, client):
    """The same while the VM is protected: whoever comes is refused, and epochs go on."""
    for host in ("hostA", "hostC"):
        epoch = lab.status("hostA")["epoch"]
        answer = evil.as_primary(lab, "correct-hello", host)
        report.check(answer["class"] == "WrongState", "a second primary (in the name of %s) is refused" % host, answer)
        wait_for(lambda e=epoch: lab.status("hostA")["epoch"] > e + 3, 5, "epochs go on")
    report.check(lab.status("hostA")["state"] == "protected", "the VM stays protected", lab.status("hostA"))
    client.wait_acked(5)


def main(report, cluster):
    lab, vm = cluster.up(dirty=1_000_000)
    lab.mcctl("hostA", "unprotect", "vm1")  # now there is an older generation to speak of
    lab.write_vm("hostC", "vm1", vm.config())
    client = lab.start_client(vm)
    client.wait_acked(10)
    slow = Slow(lab)
    one_after_another(report, lab, vm, client)
    no_right_to(report, lab)
    slow.end(report)
    lab.protect(vm, "hostA", "hostB")
    against_protected(report, lab, client)
    off = lab.poweroff("hostA")
    running = lab.events["hostB"].wait("RUNNING", 15, off)
    client.wait_answer_after(running["time"])
    client.wait_acked(5)
    report.client(client.stop(), " after all that, and a real takeover")


if __name__ == "__main__":
    run(main)
