# SPDX-License-Identifier: GPL-2.0-or-later
"""A peer that holds the cluster key and does wrong (tests/tools/evilpeer.c), and what must come of each misdeed."""
import json
import os
import subprocess
import threading
from typing import NamedTuple

from .proc import LabError, wait_for


class Misdeed(NamedTuple):
    name: str
    cls: str = "ProtocolError"  # the class of the error that it gets; "" if any
    bound: float = 5            # seconds until the connection is closed
    aside: str = ""             # it takes long: done to this VM, beside the others; not with --quick
    image: bool = False         # of a primary: the standby has a whole image by then, and keeps it
    epoch: int = 0              # of a standby of a VM that is protected: the last epoch that counts
    why: str = ""

    @property
    def limit_ms(self):
        return self.bound * 1000


# Those of which more is to be said than Misdeed's defaults say; `evilpeer primary` lists all.
PRIMARY = (
    Misdeed("wrong-version", "WrongVersion"),
    Misdeed("hello-other-machine", "ConfigError"),
    Misdeed("hello-other-layout", "ConfigError"),
    Misdeed("hello-large-size", "ConfigError"),
    Misdeed("hello-large-buffer", "NotEnoughMemory"),
    Misdeed("hello-small-buffer", "InvalidArgument"),
    Misdeed("hello-old-generation", "NotOwner"),
    Misdeed("hello-future-generation", "NotOwner"),
    Misdeed("silent-from-the-start", "Timeout", bound=6),
    Misdeed("silent-after-hello", "Timeout", bound=32, aside="vm2"),
    Misdeed("silent-in-a-slab", "PeerUnreachable", bound=32, aside="vm3"),
    Misdeed("truncated-slab", "PeerUnreachable"),
    Misdeed("endless-epoch", bound=10, why="5000 slabs take their time to be sent"),
    Misdeed("epoch-gap-later", image=True),
    Misdeed("epoch-repeated", image=True),
    Misdeed("sync-after-commit", image=True),
    Misdeed("vanish-after-commit", "PeerUnreachable", image=True, aside="vm4"),
    Misdeed("protected-without-vote", "NotOwner", image=True),
    Misdeed("handover-without-vote", "", image=True),
    Misdeed("handover-at-once", ""),
)
LATER = 8  # tests/tools/evilstandby.c: the epoch in which a protected VM sees the misdeed
STANDBY = (
    Misdeed("hello-refused", "NotEnoughMemory"),
    Misdeed("hello-closed", "PeerUnreachable"),
    Misdeed("hello-silence", "Timeout", bound=21, aside="vm2"),
    Misdeed("sync-refused", "NotEnoughMemory"),
    Misdeed("sync-closed", "PeerUnreachable"),
    Misdeed("sync-silence", "Timeout", bound=13, aside="vm3"),
    Misdeed("first-ack-never", "Timeout"),
    Misdeed("first-epoch-closed", "PeerUnreachable"),
    Misdeed("ack-twice", epoch=LATER, why="its first ACK was honest"),
)


def misdeeds(lab, role):
    """All that evilpeer can do in this role, with what is to be expected."""
    out = subprocess.run([lab.tool("tests/tools/evilpeer"), role], capture_output=True, text=True, check=True).stdout
    told = {m.name: m for m in (PRIMARY if role == "primary" else STANDBY)}
    unknown = set(told) - set(out.split())
    if unknown:
        raise LabError("evilpeer knows nothing of %s" % sorted(unknown))
    return [told.get(name, Misdeed(name)) for name in out.split() if name != "correct-hello"]


def _command(lab, *args):
    return [lab.tool("tests/tools/evilpeer"), "--config", "/run/lab/etc/mcd.conf", *args]


def as_primary(lab, misdeed, host="hostA", peer="hostB", vm="vm1"):
    """Offers the protection of hostA's VM to the peer, in the name of the host; how it ended."""
    generation = lab.status("hostA", vm)["generation"]
    out = lab.hosts[host].run(_command(lab, "--vm", vm, "--peer", peer, "--generation", str(generation), "primary", misdeed),
                              timeout=90)
    return json.loads(out.splitlines()[-1])


class EvilStandby:
    """In place of a host's mcd: does to a VM that is protected there what it was told to."""

    def __init__(self, lab, host):
        self._answers: dict = {}
        self._process = lab.hosts[host].spawn(_command(lab, "standby", "-"), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                              text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        wait_for(lambda: "" in self._answers, 10, "evilpeer starts")

    def do(self, misdeed, vm="vm1"):
        """To the next who comes to have this VM protected."""
        self._process.stdin.write("%s %s\n" % (vm, misdeed))
        self._process.stdin.flush()
        wait_for(lambda: misdeed in self._answers, 5, "evilpeer knows of " + misdeed)

    def _read(self):
        for line in self._process.stdout:
            answer = json.loads(line)
            if "ready" in answer:
                self._answers[answer["ready"]] = None
            else:
                self._answers[answer["misdeed"]] = answer

    def answer(self, misdeed):
        """How it ended: when the primary has closed the connection."""
        return wait_for(lambda: self._answers.get(misdeed), 45, "the primary has had enough of %s" % misdeed)

    def end(self):
        self._process.stdin.close()
        self._process.wait(5)
        self._reader.join(5)
        self._process.stdout.close()


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


def happens(lab, host, event, since, **data):
    """The event, if it comes within a second; or None."""
    try:
        return lab.events[host].wait(event, 1, since, **data)
    except LabError:
        return None


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


def nothing_left(report, lab, host, promise, limit, *vms):
    """Within that many seconds."""
    def gone():
        return not left_behind(lab, host, *vms) and all(lab.status(host, vm.name).get("state") == "stopped" for vm in vms)
    try:
        wait_for(gone, limit, "gone")
    except LabError:
        pass
    left = left_behind(lab, host, *vms)
    report.check(not left, promise, left)
