# SPDX-License-Identifier: GPL-2.0-or-later
"""The demo's three faults: what is done, who has to notice, and what must be true afterwards."""
from .proc import now

PRIMARY, STANDBY, VOTER = "hostA", "hostB", "hostC"


class Fault:
    title: str
    lost_host: str      # whom the survivor misses
    survivor = PRIMARY  # where the VM runs afterwards
    moves = 0           # how often the VM may be seen to change places

    def strike(self, lab):
        """Does it; returns the moment."""
        raise NotImplementedError

    def rows(self, lab, off):
        """The timeline: (what, moment or None)."""
        events = lab.events[self.survivor]
        lost = events.find("KEEPALIVE_LOST", off, peer=self.lost_host)
        link = events.find("LINK_LOST", off)
        noticed = [e["time"] for e in (lost, link) if e]
        return [("last keep-alive", lost and lost["data"].get("last_heard")),
                ("suspicion", min(noticed) if noticed else None),
                ("vote won", self.time(events.find("VOTE_WON", off)))]

    @staticmethod
    def time(event):
        return event and event["time"]

    def running(self, lab, off, timeout):
        return lab.events[self.survivor].wait("RUNNING", timeout, off)["time"]

    def verify(self, lab):
        """What is wrong at the survivor and elsewhere, in sentences."""
        v = lab.status(self.survivor)
        if (v.get("role"), v.get("state")) != ("primary", "unprotected"):
            return ["vm1 is %s and %s on %s instead of primary and unprotected" % (
                v.get("role"), v.get("state"), self.survivor)]
        return []


class LosePrimary(Fault):
    title = "hostA, which runs the VM, is powered off"
    survivor, moves, lost_host = STANDBY, 1, PRIMARY

    def strike(self, lab):
        return lab.poweroff(PRIMARY)

    def rows(self, lab, off):
        events = lab.events[STANDBY]
        suspected = events.find("SUSPECTED", off) or events.find("KEEPALIVE_LOST", off, peer=PRIMARY)
        loaded = events.find("DEVICES_LOADED", off)
        return [("last keep-alive", suspected and suspected["data"].get("last_heard")),
                ("suspicion", self.time(suspected)),
                ("vote won", self.time(events.find("VOTE_WON", off))),
                ("device state loaded", loaded and loaded["data"].get("at", loaded["time"]))]


class LoseStandby(Fault):
    title = "hostB, the standby, is powered off"
    lost_host = STANDBY

    def strike(self, lab):
        return lab.poweroff(STANDBY)


class LoseLink(Fault):
    title = "the link between hostA and hostB is cut; both still reach hostC"
    lost_host = STANDBY

    def strike(self, lab):
        at = now()
        lab.switch.cut_pair(PRIMARY, STANDBY)
        return at

    def discarded(self, lab, off):
        events = lab.events[STANDBY]
        return events.find("DISCARDED", off) or events.find("STATE_CHANGED", off, to="stopped")

    def rows(self, lab, off):
        return super().rows(lab, off) + [("standby discards", self.time(self.discarded(lab, off)))]

    def running(self, lab, off, timeout):
        at = super().running(lab, off, timeout)
        lab.events[STANDBY].wait("DISCARDED", timeout, off)
        return at

    def verify(self, lab):
        wrong = super().verify(lab)
        qemu = lab.qemu(STANDBY, lab.vms["vm1"])
        if qemu:
            wrong.append("hostB still has a QEMU of vm1 (pid %d)" % qemu)
        return wrong


FAULTS = {"primary": LosePrimary, "standby": LoseStandby, "link": LoseLink}
