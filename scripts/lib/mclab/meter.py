# SPDX-License-Identifier: GPL-2.0-or-later
"""How much memory the mcds use of their own."""
import threading

MIB = 1 << 20
# Beyond max-buffer (mcd/README.md, invariant 5): device state, the list of dirty ranges, what malloc keeps.
FIXED = 4 * MIB


def anonymous(lab, host):
    """Bytes of mcd's own memory: neither the guest's (shared memory) nor files (spilled slabs)."""
    h = lab.hosts[host]
    with open("/proc/%d/smaps_rollup" % h.inner(h.mcd), encoding="ascii") as f:
        for line in f:
            if line.startswith("Pss_Anon:"):
                return int(line.split()[1]) << 10
    raise RuntimeError("this kernel does not tell Pss_Anon")


def spilled(lab, host):
    """How many slabs it has put into files, for want of room."""
    h = lab.hosts[host]
    with open("/proc/%d/maps" % h.inner(h.mcd), encoding="latin1") as f:
        return sum("/state/#" in line for line in f)


class Meter(threading.Thread):
    """The most that each mcd used beyond `base` ({host: bytes}), and spilled, from now on until stop()."""

    def __init__(self, lab, base):
        super().__init__(daemon=True)
        self.lab, self.base = lab, base
        self.memory, self.spilled = dict.fromkeys(base, 0), dict.fromkeys(base, 0)
        self._over = threading.Event()
        self.start()

    def run(self):
        while not self._over.wait(0.01):
            for host, base in self.base.items():
                self.memory[host] = max(self.memory[host], anonymous(self.lab, host) - base)
                self.spilled[host] = max(self.spilled[host], spilled(self.lab, host))

    def stop(self):
        self._over.set()
        self.join()
        print("# used beyond the start: %s, spilled %s" % (
            {h: "%.1f MiB" % (m / MIB) for h, m in self.memory.items()}, self.spilled), flush=True)
        return self
