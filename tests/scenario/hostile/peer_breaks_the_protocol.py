# SPDX-License-Identifier: GPL-2.0-or-later
"""Peers that hold the cluster key and are broken or hostile (tests/tools/evilpeer.c): each misdeed
ends the connection with a reason, soon, and nothing else ends: not the mcd, not the VM, not the
client's connection.  What a lying standby acknowledges opens nothing: only the vote does."""
import json
import os
import subprocess
import threading
import time

from mclab.control import CommandError
from mclab.proc import LabError, now, wait_for
from mclab.scenario import QUICK, run

# What takes long happens to VMs of its own, all at once, beside the rest; not with --quick.
ASIDE_PRIMARY = {"silent-after-hello": "vm2", "silent-in-a-slab": "vm3", "vanish-after-commit": "vm4"}
ASIDE_STANDBY = {"hello-silence": "vm2", "sync-silence": "vm3"}
# Misdeeds after a whole image: it is kept until it is certain that no record names the standby.
WHOLE_IMAGE = {"epoch-gap-later", "epoch-repeated", "sync-after-commit", "protected-without-vote",
               "handover-without-vote", "vanish-after-commit"}
# Bounds other than the 5 s: silence, and 5000 slabs that take their time to be sent.
BOUNDS = {"silent-after-hello": 32, "silent-in-a-slab": 32, "silent-from-the-start": 6, "endless-epoch": 10,
          "hello-silence": 21, "sync-silence": 13}
LATER = 8  # tests/tools/evilstandby.c: the epoch in which a protected VM sees the misdeed
# The class of the error, where ProtocolError is not what it is.
CLASSES = {
    "wrong-version": "WrongVersion", "truncated-slab": "PeerUnreachable", "silent-in-a-slab": "PeerUnreachable",
    "silent-after-hello": "Timeout", "silent-from-the-start": "Timeout",
    "vanish-after-commit": "PeerUnreachable", "protected-without-vote": "NotOwner",
    "handover-at-once": None, "handover-without-vote": None,
    "hello-other-machine": "ConfigError", "hello-other-layout": "ConfigError", "hello-large-size": "ConfigError",
    "hello-large-buffer": "NotEnoughMemory", "hello-small-buffer": "InvalidArgument",
    "hello-old-generation": "NotOwner", "hello-future-generation": "NotOwner",
    # of a standby
    "hello-refused": "NotEnoughMemory", "sync-refused": "NotEnoughMemory", "hello-closed": "PeerUnreachable",
    "sync-closed": "PeerUnreachable", "hello-silence": "Timeout", "sync-silence": "Timeout",
    "first-ack-never": "Timeout", "first-epoch-closed": "PeerUnreachable"}


def command(lab, *args):
    return [lab.tool("tests/tools/evilpeer"), "--config", "/run/lab/etc/mcd.conf", *args]


def misdeeds(lab, role):
    out = subprocess.run([lab.tool("tests/tools/evilpeer"), role], capture_output=True, text=True, check=True)
    return [m for m in out.stdout.split() if m not in ASIDE_PRIMARY and m not in ASIDE_STANDBY]


class Aside(threading.Thread):
    """A function that runs meanwhile; result() is its value, or raises what it raised."""

    def __init__(self, function, *args):
        super().__init__(daemon=True)
        self._function, self._args, self._value, self._error = function, args, None, None
        self.start()

    def run(self):
        try:
            self._value = self._function(*self._args)
        except Exception as e:  # raised again by result()
            self._error = e

    def result(self):
        self.join()
        if self._error:
            raise self._error
        return self._value


def left_behind(lab, host, *vms):
    """What this host still has of these VMs, its only ones: guest memory, spilled slabs, a QEMU."""
    h = lab.hosts[host]
    mcd = h.inner(h.mcd)
    with open("/proc/%d/maps" % mcd, encoding="latin1") as f:
        names = [line.split(None, 5)[5].strip() for line in f if line.count("/")]
    for fd in os.listdir("/proc/%d/fd" % mcd):
        try:
            names.append(os.readlink("/proc/%d/fd/%s" % (mcd, fd)))
        except OSError:
            continue
    kept = [n for n in names if n.startswith("/memfd:") or "/state/#" in n]
    return kept + ["QEMU of %s" % vm.name for vm in vms if lab.qemu(host, vm)]


def gone(lab, host, limit, *vms):
    """Waits until nothing is left; what is."""
    try:
        wait_for(lambda: not left_behind(lab, host, *vms) and
                 all(lab.status(host, vm.name).get("state") == "stopped" for vm in vms), limit, "gone")
    except LabError:
        pass
    return left_behind(lab, host, *vms)


# --- a primary that does wrong -----------------------------------------------------------------------

def as_primary(lab, misdeed, host="hostA", peer="hostB", vm="vm1"):
    generation = lab.status("hostA", vm)["generation"]
    out = lab.hosts[host].run(command(lab, "--vm", vm, "--peer", peer, "--generation", str(generation),
                                      "primary", misdeed), timeout=90)
    return json.loads(out.splitlines()[-1])


def happens(lab, host, event, since, **data):
    try:
        return lab.events[host].wait(event, 1, since, **data)
    except LabError:
        return None


def reason(lab, host, vm, began, answer):
    """(class, sentence) of why the host closed the connection: what it answered, or what it told its own."""
    if answer["message"]:
        return answer["class"], answer["message"]
    lost = happens(lab, host, "LINK_LOST", began, vm=vm)
    breach = lab.events[host].find("PROTOCOL_ERROR", began, vm=vm)  # it comes first
    said = breach or lost
    return "ProtocolError" if breach else "PeerUnreachable", said["data"]["reason"] if said else ""


def judge(report, lab, misdeed, began, answer, host="hostB", vm="vm1"):
    cls, why = reason(lab, host, vm, began, answer)
    wanted = CLASSES.get(misdeed, "ProtocolError")
    if misdeed == "wrong-version":
        wanted, cls = "version", "version" if "version 99" in why else cls
    good = answer["end"] != "open" and answer["took_ms"] <= BOUNDS.get(misdeed, 5.0) * 1000 and \
        len(why) > 10 and wanted in (None, cls)
    report.check(good, "a primary's misdeed ends the connection with its reason: %s" % misdeed,
                 (answer, cls, why, "wanted %s" % wanted))
    if wanted == "ProtocolError":
        report.check(happens(lab, host, "PROTOCOL_ERROR", began, vm=vm), "an event says so: %s" % misdeed)
    report.check(lab.events[host].find("RUNNING", began, vm=vm) is None, "it does not run there: %s" % misdeed)


def hostile_primaries(report, lab, vm, client):
    daemon = lab.hosts["hostB"].inner(lab.hosts["hostB"].mcd)
    for misdeed in misdeeds(lab, "primary"):
        if misdeed == "correct-hello":
            continue
        began = now()
        judge(report, lab, misdeed, began, as_primary(lab, misdeed))
        if misdeed not in WHOLE_IMAGE:
            left = gone(lab, "hostB", 3, vm)
            report.check(not left, "the standby keeps nothing of it: %s" % misdeed, left)
        client.wait_acked(1)
        if lab.hosts["hostB"].mcd.poll() is not None:
            report.check(False, "mcd survives %s" % misdeed, lab.log_tail("hostB", 5))
            return
    report.check(lab.hosts["hostB"].inner(lab.hosts["hostB"].mcd) == daemon, "the standby's mcd is the same all the time")
    answer = as_primary(lab, "correct-hello", "hostC")
    report.check(answer["class"] == "NotOwner", "a host that does not own the VM cannot offer it", answer)
    answer = as_primary(lab, "correct-hello", "hostC", "hostA")
    report.check(answer["class"] == "WrongState", "a VM that runs here is not taken as a standby's", answer)


class SlowPrimaries:
    """Silence, and a whole image that is never named, to hostC."""

    def __init__(self, lab):
        self.lab, self.began = lab, now()
        self.daemon = lab.hosts["hostC"].inner(lab.hosts["hostC"].mcd)
        self.vms = [lab.add_vm(name, ("hostA", "hostC"), memory=128, region=16)
                    for name in (() if QUICK else ASIDE_PRIMARY.values())]
        for vm in self.vms:
            lab.mcctl("hostA", "start", vm.name)
        self.asides = {} if QUICK else {m: Aside(self._run, m, vm) for m, vm in zip(ASIDE_PRIMARY, self.vms)}

    def _run(self, misdeed, vm):
        answer = as_primary(self.lab, misdeed, peer="hostC", vm=vm.name)
        return answer, self.lab.qemu("hostC", vm)

    def end(self, report):
        for misdeed, aside in self.asides.items():
            answer, kept = aside.result()
            judge(report, self.lab, misdeed, self.began, answer, "hostC", ASIDE_PRIMARY[misdeed])
            if misdeed in WHOLE_IMAGE:
                report.check(kept, "a whole image is kept as long as it may be needed", kept)
        left = gone(self.lab, "hostC", 20, *self.vms)
        report.check(not left, "in the end a standby keeps nothing, not even a whole image that nobody names it for", left)
        report.check(self.lab.hosts["hostC"].inner(self.lab.hosts["hostC"].mcd) == self.daemon,
                     "that standby's mcd is the same all the time")


def against_protected(report, lab, vm, client):
    """The same while the VM is protected: whoever comes is refused, and epochs go on."""
    for host in ("hostA", "hostC"):
        epoch = lab.status("hostA")["epoch"]
        answer = as_primary(lab, "correct-hello", host)
        report.check(answer["class"] == "WrongState", "a second primary (in the name of %s) is refused" % host, answer)
        wait_for(lambda e=epoch: lab.status("hostA")["epoch"] > e + 3, 5, "epochs go on")
    report.check(lab.status("hostA")["state"] == "protected", "the VM stays protected", lab.status("hostA"))
    client.wait_acked(5)


# --- a standby that does wrong -----------------------------------------------------------------------

class EvilStandby:
    """In place of hostB's mcd: does to a VM that is protected there what it was told to."""

    def __init__(self, lab):
        self.host = lab.hosts["hostB"]
        self.process = self.host.spawn(command(lab, "standby", "-"), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       text=True)
        self._answers = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        wait_for(lambda: "" in self._answers, 10, "evilpeer starts")

    def do(self, misdeed, vm="vm1"):
        self.process.stdin.write("%s %s\n" % (vm, misdeed))
        self.process.stdin.flush()
        wait_for(lambda: misdeed in self._answers, 5, "evilpeer knows of " + misdeed)

    def _read(self):
        for line in self.process.stdout:
            answer = json.loads(line)
            if "ready" in answer:
                self._answers[answer["ready"]] = None
            else:
                self._answers[answer["misdeed"]] = answer

    def answer(self, misdeed):
        """How it ended: when the primary has closed the connection."""
        return wait_for(lambda: self._answers.get(misdeed), 45, "the primary has had enough of %s" % misdeed)

    def end(self):
        self.process.stdin.close()
        self.process.wait(5)
        self._reader.join(5)
        self.process.stdout.close()


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


def not_protected_by(report, lab, evil, misdeed, began, refusal, vm="vm1"):
    """It showed itself before the VM was protected: `mcctl protect` says why."""
    wanted, bound = CLASSES.get(misdeed, "ProtocolError"), BOUNDS.get(misdeed, 5.0)
    cls, message, took = refusal
    report.check(cls == wanted and len(message) > 10 and took <= bound + 3,
                 "protect by a standby that does wrong is refused: %s" % misdeed, (refusal, "wanted %s" % wanted))
    answer = evil.answer(misdeed)
    report.check(answer["took_ms"] <= bound * 1000, "its connection is closed in time: %s" % misdeed, answer)
    if wanted == "ProtocolError":
        report.check(happens(lab, "hostA", "PROTOCOL_ERROR", began, vm=vm), "an event says so: %s" % misdeed)


def unprotected_by(report, lab, vm, evil, misdeed):
    """It shows itself to a VM that is protected: held output waits for the vote."""
    log = os.path.join(lab.dir, "frames-%s" % misdeed)
    watch = lab.watch(vm, log=log)
    began = now()
    lab.protect(vm, "hostA", "hostB")
    running = lab.events["hostA"].wait("RUNNING", 15, began, vm="vm1")
    answer = evil.answer(misdeed)
    won = lab.events["hostA"].find("VOTE_WON", answer["at"], vm="vm1")
    lost = lab.events["hostA"].find("LINK_LOST", began, vm="vm1")
    time.sleep(0.2)
    watch.stop()
    report.check(answer["end"] == "closed" and answer["took_ms"] <= 2000 and lost and len(lost["data"]["reason"]) > 10,
                 "a standby's misdeed ends the protection with its reason: %s" % misdeed, (answer, lost))
    report.check(won and won["time"] < running["time"], "the VM goes on alone only after a won vote: %s" % misdeed, won)
    honest = LATER if misdeed == "ack-twice" else LATER - 1
    report.check(running["data"]["epoch"] == honest, "the last epoch that counts is the last honest one: %s" % misdeed,
                 running)
    if won and misdeed != "ack-twice":
        seen = frames(log, answer["at"] + 5_000_000, won["time"])
        report.check(frames(log, 0, answer["at"]), "what leaves is seen: %s" % misdeed)
        report.check(not seen, "nothing leaves between the misdeed and the vote: %s" % misdeed, seen[:3])
    lab.mcctl("hostA", "unprotect", "vm1")  # or it would be protected again by the next one


def hostile_standbys(report, lab, vm, client):
    qemu = lab.qemu("hostA", vm)
    daemon = lab.hosts["hostA"].inner(lab.hosts["hostA"].mcd)
    lab.stop_mcd("hostB")
    wait_unheard(lab, "hostA", "hostB")
    slow = {} if QUICK else ASIDE_STANDBY
    evil = EvilStandby(lab)
    lab.wait_heard("hostA", "hostB")
    start = now()
    for misdeed, other in slow.items():
        evil.do(misdeed, other)
    asides = {m: Aside(protect, lab, v) for m, v in slow.items()}
    for misdeed in misdeeds(lab, "standby"):
        evil.do(misdeed)
        if misdeed.startswith(("hello-", "sync-", "first-")):
            began = now()
            not_protected_by(report, lab, evil, misdeed, began, protect(lab, "vm1"))
        else:
            unprotected_by(report, lab, vm, evil, misdeed)
        status = lab.wait_state("hostA", "vm1", "unprotected", 5)  # after a vote, if one was needed
        report.check(not status["held_bytes"] and not status["alarm"],
                     "the VM runs on unprotected: %s" % misdeed, status)
        client.wait_acked(3)
    for misdeed, aside in asides.items():
        not_protected_by(report, lab, evil, misdeed, start, aside.result(), slow[misdeed])
    report.check(lab.qemu("hostA", vm) == qemu and lab.hosts["hostA"].inner(lab.hosts["hostA"].mcd) == daemon,
                 "the primary's QEMU and mcd are the same all the time")
    evil.end()
    wait_unheard(lab, "hostA", "hostB")
    lab.start_mcd("hostB")
    lab.wait_heard("hostA", "hostB")


def main(report, cluster):
    lab, vm = cluster.up(dirty=1_000_000)
    lab.mcctl("hostA", "unprotect", "vm1")  # now there is an older generation to speak of
    lab.write_vm("hostC", "vm1", vm.config())
    client = lab.start_client(vm)
    client.wait_acked(10)
    slow = SlowPrimaries(lab)
    hostile_primaries(report, lab, vm, client)
    hostile_standbys(report, lab, vm, client)
    slow.end(report)
    lab.protect(vm, "hostA", "hostB")
    against_protected(report, lab, vm, client)
    off = lab.poweroff("hostA")
    running = lab.events["hostB"].wait("RUNNING", 15, off)
    client.wait_answer_after(running["time"])
    client.wait_acked(5)
    report.client(client.stop(), " after all that, and a real takeover")


if __name__ == "__main__":
    run(main)
