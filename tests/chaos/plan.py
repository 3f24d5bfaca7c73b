# SPDX-License-Identifier: GPL-2.0-or-later
"""The generator: draws a round from its seed and number alone."""
import random

from faults import (PRIMARY_STEPS, STANDBY_STEPS, TAKEOVER_STEPS, Cut, Failover, Failpoint, Freeze, Isolate, Mcd,
                    PowerOff, QemuKill, QemuStop, Stall, Starve, Two, corrupt, cut_keepalives, one_way)


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
    short = lambda: rng.uniform(0.1, 3)
    kinds += [lambda w=w: one_way(w, short()) for w in ("-to-standby", "-to-primary")]
    kinds += [lambda w=w: cut_keepalives(w, short()) for w in ("", "-to-standby", "-to-primary")]
    kinds += [lambda: Stall("cut-checkpoints", "drop", short()), lambda: corrupt(rng.randrange(0, 900), rng.uniform(0.1, 1.5))]
    kinds += [lambda p=p: Starve(p, rng.uniform(0.5, 4)) for p in ("primary", "standby")]
    # Of the two hosts with a copy only one may lose it.
    kinds += [lambda p=p: Two("poweroff", (p, "voter"), rng.uniform(0.5, 2.5)) for p in ("primary", "standby")]
    kinds += [lambda h=h, p=p: Two(h, p, short()) for h in ("freeze", "isolate", "kill-mcd")
              for p in (("primary", "standby"), ("primary", "voter"), ("standby", "voter"))]
    return kinds


def _failpoint(rng, step):
    lasts = rng.choice((0.0, rng.uniform(0, 0.4), rng.uniform(0.4, 2)))
    if step in TAKEOVER_STEPS:
        trigger = rng.choice((PowerOff("primary", 0.5), Isolate("primary", 0.5), QemuKill("primary"),
                              Mcd("kill", "primary", 0.5), Failover()))
        return Failpoint("standby", step, 1, rng.choice(("stop", "kill")), lasts, trigger)
    part = "primary" if step in PRIMARY_STEPS else "standby"
    action = rng.choice(("kill", "kill", "stop", "poweroff"))
    count = rng.choice((1, 2, rng.randint(3, 25)))
    return Failpoint(part, step, max(count, 2) if action == "poweroff" else count, action, lasts)


def compatible(a, b):
    """Whether no order of these two can leave the cluster without a copy, or touch one thing twice."""
    parts = [{getattr(f, "part", None), *getattr(f, "pair", ())} - {None} for f in (a, b)]
    if a.name == b.name or any(isinstance(f, Failover) for f in (a, b)) and (a.costs or b.costs):
        return False
    for one, other in ((a, b), (b, a)):
        # The copy that is destroyed must not be the one that the other fault leaves.
        if one.costs and other.shifts and one.costs != other.shifts:
            return False
        if isinstance(one, Two):  # enough for a round, and it touches two hosts
            return False
        # A host without power or frozen cannot be handled otherwise at the same time.
        if isinstance(one, (PowerOff, Freeze)) and getattr(other, "part", None) == one.part:
            return False
        if isinstance(one, (PowerOff, Freeze)) and one.part == "primary" and isinstance(other, Failover):
            return False
    if isinstance(a, (Mcd, Starve)) and isinstance(b, (Mcd, Starve)) and a.part == b.part:
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
