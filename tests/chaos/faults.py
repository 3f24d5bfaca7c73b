# SPDX-License-Identifier: GPL-2.0-or-later
"""The faults of the campaign, and the generator that draws a round from its seed.

A fault is struck, lasts, and is healed.  What it may cost decides with which others it may be
combined: the campaign must never lose the VM legitimately, as two hosts without power would.
"""
import os
import random
import signal

from mclab.proc import LabError, alive, now, wait_for

PRIMARY_STEPS = ("TICK", "PAUSE", "BARRIER", "SAVE", "SCAN", "COPY", "RESUME", "SEND", "ACKED", "RELEASE", "DONE")
STANDBY_STEPS = ("STAGE", "VERIFY", "COMMIT", "APPLY")
TAKEOVER_STEPS = ("WON", "FINISH", "OPEN", "ACTIVATE")


class Cluster:
    """Who is who in this round; the faults know hosts only by their part."""

    def __init__(self, lab, vm, primary, standby, voter="hostC"):
        self.lab, self.vm = lab, vm
        self.host = {"primary": primary, "standby": standby, "voter": voter}


class Fault:
    """costs: the part whose copy of the VM does not survive it.  shifts: the part that may be left
    out of the next ownership record because of it.  lasts: seconds from strike to heal."""
    costs = shifts = ""
    outage = 1  # how many worst-case takeovers fit into it, beside `own`
    own = 0.0   # seconds without service that it takes by itself

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
    """mcd is started anew with a step at which it kills (or stops) itself, and gets there."""
    outage = 2
    arming = True

    def __init__(self, part, step, count, action, lasts, trigger=None):
        super().__init__("%s-%s%s" % (action, step, "-by-" + trigger.name if trigger else ""), lasts)
        self.part, self.step, self.count, self.action, self.trigger = part, step, count, action, trigger
        self.own = lasts + (trigger.own if trigger else 0)
        self.reached = None

    def __str__(self):
        return "failpoint %s:%d:%s on the %s%s, for %.2f s" % (
            self.step, self.count, self.action, self.part,
            ", by %s" % self.trigger if self.trigger else "", self.lasts)

    def arm(self, c):
        name = c.host[self.part]
        c.lab.stop_mcd(name)
        os.environ["MCD_FAILPOINT"] = "%s:%d:%s" % (self.step, self.count, self.action)
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
        if self.action == "stop":
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


def _simple(rng):
    """One fault of each kind, with its random time."""
    away = lambda: rng.choice((rng.uniform(0.02, 0.4), rng.uniform(0.4, 2.5)))
    kinds = [lambda p=p: PowerOff(p, rng.uniform(0.3, 2.5)) for p in ("primary", "standby", "voter")]
    kinds += [lambda a=a, b=b: Cut(a, b, rng.uniform(0.1, 3))
              for a, b in (("primary", "standby"), ("primary", "voter"), ("standby", "voter"))]
    kinds += [lambda p=p: Isolate(p, rng.uniform(0.1, 3)) for p in ("primary", "standby")]
    kinds += [lambda p=p: Freeze(p, rng.choice((rng.uniform(0.1, 0.6), rng.uniform(0.6, 5))))
              for p in ("primary", "standby", "voter")]
    kinds += [lambda h=h, p=p: Mcd(h, p, away()) for h in ("kill", "term") for p in ("primary", "standby", "voter")]
    kinds += [lambda p=p: QemuKill(p) for p in ("primary", "standby")]
    kinds += [lambda p=p: QemuStop(p, rng.uniform(0.1, 3)) for p in ("primary", "standby")]
    kinds.append(Failover)
    return kinds


def _failpoint(rng, step):
    lasts = rng.choice((0.0, rng.uniform(0, 0.4), rng.uniform(0.4, 2)))
    if step in TAKEOVER_STEPS:
        # Whoever has won has the only copy: mcd is hung there, not killed.
        trigger = rng.choice((PowerOff("primary", 0.5), Isolate("primary", 0.5), QemuKill("primary"),
                              Mcd("kill", "primary", 0.5), Failover()))
        return Failpoint("standby", step, 1, "stop", lasts, trigger)
    part = "primary" if step in PRIMARY_STEPS else "standby"
    action = "kill" if rng.random() < 0.75 else "stop"
    return Failpoint(part, step, rng.choice((1, 2, rng.randint(3, 25))), action, lasts)


def compatible(a, b):
    """Whether no order of these two can leave the cluster without a copy, or touch one thing twice."""
    parts = [{getattr(f, "part", None), *getattr(f, "pair", ())} - {None} for f in (a, b)]
    if a.name == b.name or any(isinstance(f, Failover) for f in (a, b)) and (a.costs or b.costs):
        return False
    for one, other in ((a, b), (b, a)):
        # The copy that is destroyed must not be the one that the other fault leaves.
        if one.costs and other.shifts and one.costs != other.shifts:
            return False
        # A host without power or frozen cannot be handled otherwise at the same time.
        if isinstance(one, (PowerOff, Freeze)) and getattr(other, "part", None) == one.part:
            return False
        if isinstance(one, (PowerOff, Freeze)) and one.part == "primary" and isinstance(other, Failover):
            return False
    if isinstance(a, Mcd) and isinstance(b, Mcd) and a.part == b.part:
        return False
    if isinstance(a, Isolate) and isinstance(b, Isolate) and a.part == b.part:
        return False
    return not (isinstance(a, Failover) and getattr(b, "part", "") == "primary" or
                isinstance(b, Failover) and getattr(a, "part", "") == "primary") and bool(parts)


NAMES = None


def names():
    """What --only takes."""
    global NAMES
    if NAMES is None:
        NAMES = sorted({k().name for k in _simple(random.Random(0))} | {"failpoint", "combination"} |
                       set(PRIMARY_STEPS + STANDBY_STEPS + TAKEOVER_STEPS))
    return NAMES


class Plan:
    """One round, made of its number and the seed alone."""

    def __init__(self, seed, number, only=None):
        rng = random.Random("%d:%d" % (seed, number))
        self.number, self.wait, self.gap = number, rng.uniform(0.1, 1.0), rng.uniform(0, 1.5)
        draw = rng.random()
        kinds = _simple(rng)
        if only in PRIMARY_STEPS + STANDBY_STEPS + TAKEOVER_STEPS:
            self.faults = [_failpoint(rng, only)]
        elif only == "failpoint" or not only and draw < 0.35:
            self.faults = [_failpoint(rng, rng.choice(PRIMARY_STEPS + STANDBY_STEPS + TAKEOVER_STEPS))]
        elif only == "combination" or not only and draw < 0.5:
            while True:
                self.faults = [rng.choice(kinds)(), rng.choice(kinds)()]
                if compatible(*self.faults):
                    break
        else:
            while True:
                self.faults = [rng.choice(kinds)()]
                if not only or self.faults[0].name == only:
                    break

    @property
    def combined(self):
        return len(self.faults) > 1

    def timeline(self):
        """[(seconds after the first strike, fault, "strike" or "heal")]"""
        steps = []
        for i, f in enumerate(self.faults):
            at = i * self.gap
            steps.append((at, i, f, "strike"))
            steps.append((at + f.lasts, i, f, "heal"))
        return [(at, f, what) for at, i, f, what in sorted(steps, key=lambda s: (s[0], s[1], s[3] == "heal"))]

    def __str__(self):
        return " + ".join(map(str, self.faults)) + (" %.2f s later" % self.gap if self.combined else "")
