# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that writes to its disk as fast as it can, and the connection that this goes over."""
import re
import threading


class Load(threading.Thread):
    """The guest writes for so long; rate is what it got done in its own time."""

    def __init__(self, lab, vm, seconds):
        super().__init__()
        self.lab, self.vm, self.seconds, self.answer = lab, vm, seconds, ""
        self.start()

    def run(self):
        self.answer = self.lab.ask(self.vm, "DISKBENCH write %d" % (self.seconds * 1000), self.seconds + 60)

    def rate(self):
        self.join()
        words = self.answer.split()
        return int(words[2]) / self.seconds if words[:1] == ["BENCH"] else 0


def disk_port(lab):
    """Of hostA's connections to hostB's mcd the one made last."""
    host = lab.hosts["hostA"]
    found = []
    for line in host.run(["ss", "-Htnp", "state", "established", "dst", lab.hosts["hostB"].address]).splitlines():
        m = re.search(r":(\d+)\s+[\d.]+:(\d+).*\"mcd\".*fd=(\d+)", line)
        if m:
            found.append((int(m[3]), int(m[1]), int(m[2])))
    listening = max((f[2] for f in found), key=[f[2] for f in found].count)
    return max(f for f in found if f[2] == listening)[1]
