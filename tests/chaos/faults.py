# SPDX-License-Identifier: GPL-2.0-or-later
"""The faults of the campaign.

A fault is struck, lasts, and is healed.  What it may cost decides with which others it may be
combined: the campaign must never lose the VM legitimately, as two hosts without power would.
"""
import os
import resource
import signal
import time

from mclab.proc import LabError, alive, wait_for

PRIMARY_STEPS = ("TICK", "PAUSE", "BARRIER", "SAVE", "SCAN", "COPY", "RESUME", "INSPECT", "SEND", "ACKED", "RELEASE", "DONE")
STANDBY_STEPS = ("STAGE", "VERIFY", "COMMIT", "APPLY")
TAKEOVER_STEPS = ("WON", "FINISH", "OPEN", "ACTIVATE")


class Cluster:
    """Who is who in this round; the faults know hosts only by their part."""

    def __init__(self, lab, vm, primary, standby, voter="hostC"):
        self.lab, self.vm = lab, vm
        self.host = {"primary": primary, "standby": standby, "voter": voter}


class Fault:
    """costs: the part whose copy of the VM does not survive it.  shifts: the part that may be left
    out of the next ownership record because of it ("any": either).  lasts: seconds from strike to
    heal."""
    costs = shifts = ""
    outage = 1      # how many worst-case takeovers fit into it, beside `own`
    own = 0.0       # seconds without service that it takes by itself
    whole = False   # `own` counts in full: nobody can do anything about it
    stalls = False  # the hosts live, and only acknowledgements stay out
    blocks = False  # no majority until it is healed

    def __init__(self, name, lasts=0.0):
        self.name, self.lasts = name, lasts

    def strike(self, c):
        raise NotImplementedError

    def heal(self, c):
        pass

    def __str__(self):
        return "%s for %.2f s" % (self.name, self.lasts) if self.lasts else self.name


class PowerOff(Fault):
    def __init__(self, part, lasts):
        super().__init__("poweroff-" + part, lasts)
        self.part = part
        self.costs = self.shifts = part if part != "voter" else ""

    def strike(self, c):
        c.lab.poweroff(c.host[self.part])

    def heal(self, c):
        c.lab.boot(c.host[self.part])


class Cut(Fault):
    """Nothing passes between two hosts; both reach the third."""

    def __init__(self, a, b, lasts):
        super().__init__("cut-%s-%s" % (a, b), lasts)
        self.pair = (a, b)
        self.shifts = "standby" if "voter" not in self.pair else ""

    def _ports(self, c):
        a, b = ("cl-" + c.host[p] for p in self.pair)
        return '{ "%s" . "%s", "%s" . "%s" }' % (a, b, b, a)

    def strike(self, c):
        c.lab.switch.cut_pair(*(c.host[p] for p in self.pair))

    def heal(self, c):
        c.lab.switch._nft("delete element bridge lab pair " + self._ports(c))


class Filter(Fault):
    """A rule at the switch, on what one host sends another: drops or changes some of it."""
    n = 0

    def __init__(self, name, ways, rule, lasts):
        super().__init__(name, lasts)
        self.pair, self.ways, self.rule = ways[0], ways, rule
        self.shifts = "any"

    def strike(self, c):
        Filter.n += 1
        self.chain = "chaos%d" % Filter.n
        rules = ['iifname "cl-%s" oifname "cl-%s" %s\n' % (c.host[a], c.host[b], self.rule) for a, b in self.ways]
        c.lab.switch._nft("table bridge lab {\nchain %s {\ntype filter hook forward priority 1\n%s}\n}\n" % (
            self.chain, "".join(rules)))

    def heal(self, c):
        c.lab.switch._nft("flush chain bridge lab %s\ndelete chain bridge lab %s" % (self.chain, self.chain))


TO_STANDBY, TO_PRIMARY = ("primary", "standby"), ("standby", "primary")
PAYLOAD = 32  # bytes of a TCP header, with the time stamps that Linux sends
WAYS = {"": (TO_STANDBY, TO_PRIMARY), "-to-standby": (TO_STANDBY,), "-to-primary": (TO_PRIMARY,)}


def one_way(way, lasts):
    return Filter("cut" + way, WAYS[way], "drop", lasts)


def cut_keepalives(way, lasts):
    """Beats begin with their magic; the checkpoints and the votes pass."""
    return Filter("cut-keepalives" + way, WAYS[way], "@th,%d,32 0x4d434b41 drop" % (8 * PAYLOAD), lasts)


class Stall(Filter):
    """What is longer than a vote is a piece of a checkpoint; keep-alives and votes pass."""
    stalls = True

    def __init__(self, name, action, lasts):
        super().__init__(name, (TO_STANDBY,), "@nh,16,16 > 1000 " + action, lasts)


def corrupt(offset, lasts):
    """TCP does not see it: between namespaces no checksum is looked at."""
    return Stall("corrupt-checkpoints", "@th,%d,32 set 0x6d63643f" % (8 * (PAYLOAD + offset)), lasts)


class Isolate(Fault):
    def __init__(self, part, lasts):
        super().__init__("isolate-" + part, lasts)
        self.part = self.shifts = part

    def strike(self, c):
        c.lab.switch.isolate(c.host[self.part])

    def heal(self, c):
        c.lab.switch.rejoin(c.host[self.part])


class Freeze(Fault):
    def __init__(self, part, lasts):
        super().__init__("freeze-" + part, lasts)
        self.part = part
        self.shifts = part if part != "voter" else ""
        self.own = lasts

    def strike(self, c):
        c.lab.hosts[c.host[self.part]].freezer.freeze()

    def heal(self, c):
        c.lab.hosts[c.host[self.part]].freezer.thaw()


class Mcd(Fault):
    """mcd ends, and is started again."""
    outage = 2  # it may come back just when the others have begun to vote

    def __init__(self, how, part, lasts):
        super().__init__("%s-mcd-%s" % (how, part), lasts)
        self.how, self.part = how, part
        # The primary's QEMU outlives mcd; the replica of a standby does not.
        self.costs = "standby" if part == "standby" else ""
        self.shifts = part if part != "voter" else ""
        self.own = lasts

    def strike(self, c):
        (c.lab.kill_mcd if self.how == "kill" else c.lab.stop_mcd)(c.host[self.part])

    def heal(self, c):
        c.lab.start_mcd(c.host[self.part])


class Starve(Fault):
    """mcd gets no memory from the kernel any more, as if the host had none, just when it must make
    another replica: as it goes on with what it has, the hosts lose each other for a moment."""
    outage = 2
    SPARE = 4 << 20  # for what a sanitizer, which cannot do without, keeps for itself
    stalls = True

    def __init__(self, part, lasts):
        super().__init__("starve-mcd-" + part, lasts)
        self.part = part
        self.costs = "standby" if part == "standby" else ""
        self.shifts = "standby" if part != "voter" else ""

    def strike(self, c):
        host = c.lab.hosts[c.host[self.part]]
        self._pid = host.inner(host.mcd)
        with open("/proc/%d/statm" % self._pid, encoding="ascii") as f:
            used = int(f.read().split()[0]) * resource.getpagesize()
        self._old = resource.prlimit(self._pid, resource.RLIMIT_AS, (used + self.SPARE, resource.RLIM_INFINITY))
        cut = Cut("primary", "standby", 0)
        cut.strike(c)
        time.sleep(0.4)
        cut.heal(c)

    def heal(self, c):
        if alive(self._pid):
            resource.prlimit(self._pid, resource.RLIMIT_AS, self._old)


class Two(Fault):
    """Two of the three hosts at once: no majority until they are back, all hold."""
    blocks = True

    def __init__(self, how, parts, lasts):
        super().__init__("%s-%s-and-%s" % (how, *parts), lasts)
        self.shifts = "any"
        self._faults = [{"poweroff": PowerOff, "freeze": Freeze, "isolate": Isolate,
                         "kill-mcd": lambda p, t: Mcd("kill", p, t)}[how](p, lasts) for p in parts]
        self.costs = "".join(f.costs for f in self._faults)  # never both

    def strike(self, c):
        for f in self._faults:
            f.strike(c)

    def heal(self, c):
        for f in self._faults:
            f.heal(c)


class QemuKill(Fault):
    def __init__(self, part):
        super().__init__("kill-qemu-" + part)
        self.part = self.shifts = self.costs = part

    def strike(self, c):
        pid = c.lab.qemu(c.host[self.part], c.vm)
        if pid is None:
            raise LabError("no QEMU of the VM on the %s" % self.part)
        os.kill(pid, signal.SIGKILL)


class QemuStop(Fault):
    whole = True

    def __init__(self, part, lasts):
        super().__init__("stop-qemu-" + part, lasts)
        self.part = part
        self.own = lasts
        self._pid = None

    def strike(self, c):
        self._pid = c.lab.qemu(c.host[self.part], c.vm)
        if self._pid is None:
            raise LabError("no QEMU of the VM on the %s" % self.part)
        os.kill(self._pid, signal.SIGSTOP)

    def heal(self, c):
        if self._pid and alive(self._pid):
            os.kill(self._pid, signal.SIGCONT)


class Failover(Fault):
    """`mcctl failover`: no fault, but the others may come in its way."""
    shifts = "primary"

    def __init__(self):
        super().__init__("failover")

    def strike(self, c):
        c.lab.mcctl(c.host["primary"], "failover", c.vm.name, timeout=20)


class Failpoint(Fault):
    """mcd is started anew with a step at which it kills or stops itself, or at which its host loses
    power, and gets there."""
    outage = 2
    whole = True

    def __init__(self, part, step, count, action, lasts, trigger=None):
        super().__init__("%s-%s%s" % (action, step, "-by-" + trigger.name if trigger else ""), lasts)
        self.part, self.step, self.count, self.action, self.trigger = part, step, count, action, trigger
        self.own = lasts + (trigger.own if trigger else 0)
        if action == "poweroff":
            self.costs, self.own = part, 0
        self.reached = None

    def __str__(self):
        return "failpoint %s:%d:%s on the %s%s, for %.2f s" % (
            self.step, self.count, self.action, self.part,
            ", by %s" % self.trigger if self.trigger else "", self.lasts)

    def arm(self, c):
        name = c.host[self.part]
        c.lab.stop_mcd(name)
        action = "kill" if self.action == "kill" else "stop"
        os.environ["MCD_FAILPOINT"] = "%s:%d:%s" % (self.step, self.count, action)
        try:
            c.lab.start_mcd(name, wait=False)
        finally:
            del os.environ["MCD_FAILPOINT"]
        host = c.lab.hosts[name]
        self._process, self._pid = host.mcd, host.inner(host.mcd)

    def strike(self, c):
        if self.trigger:
            self.trigger.strike(c)
        try:
            wait_for(self._hit, 10, "", 0.005)
            self.reached = True
        except LabError:
            self.reached = False
        if self.action == "poweroff":
            # Before the standby is named, the primary's host has the only copy.
            self.reached &= self.part == "standby" or c.lab.status(c.host["standby"], c.vm.name).get("state") == "standby"
            time.sleep(0.02)  # what was let out gets to the client
            if self.reached:
                c.lab.poweroff(c.host[self.part])
            os.kill(self._process.pid, signal.SIGCONT)  # nsenter, outside, stopped with its child

    def _hit(self):
        if self._process.poll() is not None:
            return True
        try:
            with open("/proc/%d/stat" % self._pid, encoding="latin1") as f:
                return f.read().rsplit(")", 1)[1].split()[0] in "TZX"
        except OSError:
            return True

    def heal(self, c):
        name = c.host[self.part]
        if self.action == "poweroff" and self.reached:
            c.lab.boot(name)
            return
        if self.action != "kill":
            for pid in (self._process.pid, self._pid):  # nsenter stops with its child
                os.kill(pid, signal.SIGCONT)
            c.lab.wait_mcd(name)
        if not self.reached:
            c.lab.kill_mcd(name)  # it must not go off in another round
        if not self.reached or self.action == "kill":
            self._process.wait(10)
            c.lab.start_mcd(name)
        if self.trigger:
            self.trigger.heal(c)
