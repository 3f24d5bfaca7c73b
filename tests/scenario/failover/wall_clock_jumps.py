# SPDX-License-Identifier: GPL-2.0-or-later
"""The wall clock of each host jumps by hours, forwards and backwards: no time-out of ours is measured
by it.  Protection goes on, no host is suspected, no epoch fails; a takeover is as quick as ever."""
import os
import struct
import time

from mclab.proc import now, wait_for
from mclab.scenario import HOSTS, run

HOUR = 3600 * 10**9
JUMPS = (("hostA", 5), ("hostB", -7), ("hostA", -9), ("hostC", 30), ("hostB", 24 * 365 * 10))


class Clock:
    def __init__(self, lab, host):
        self.offset, self.count = (lab.hosts[host].path("etc", name) for name in ("clock", "clock-asked"))
        for path in (self.offset, self.count):
            with open(path, "wb") as f:
                f.write(bytes(8))

    @staticmethod
    def env(build):
        return {"LD_PRELOAD": os.path.abspath(os.path.join(build, "tests/tools/clockjump.so")), "CLOCKJUMP_FILE": "/run/lab/etc/clock",
                "CLOCKJUMP_COUNT": "/run/lab/etc/clock-asked"}

    def jump(self, ns):
        with open(self.offset, "r+b") as f:
            f.write(struct.pack("=q", ns))

    def asked(self):
        with open(self.count, "rb") as f:
            return struct.unpack("=q", f.read(8))[0]


def set_up(cluster):
    clocks = {}
    lab, vm = cluster.up(prepare=lambda lab: clocks.update((h, Clock(lab, h)) for h in HOSTS),
                         mcd_env=Clock.env(cluster.build), dirty=2_000_000)
    return lab, vm, clocks


def trouble(lab, since):
    """Whatever an mcd took for a failure."""
    names = ("KEEPALIVE_LOST", "LINK_LOST", "PROTECTION_ENDED", "STATE_CHANGED", "VOTE_STARTED", "ALARM", "PROTOCOL_ERROR", "QUORUM_LOST")
    return [(h, n) for h in HOSTS for n in names if lab.hosts[h].up and lab.events[h].find(n, since)]


def main(report, cluster):
    lab, vm, clocks = set_up(cluster)
    watch = lab.watch(vm)
    client = lab.start_client(vm)
    client.wait_acked(20)
    began = now()
    for host, hours in JUMPS:
        epoch = lab.status("hostA")["epoch"]
        clocks[host].jump(hours * HOUR)
        time.sleep(1)
        what = "the clock of %s off by %+d h" % (host, hours)
        status = lab.status("hostA")
        report.check(not trouble(lab, began) and status["state"] == "protected",
                     what + ": protected, nobody suspects anybody", (trouble(lab, began), status))
        wait_for(lambda: lab.status("hostA")["epoch"] > epoch + 3, 30, "epochs go on")
        client.wait_acked(10)
    lab.switch.isolate("hostC")  # reconnecting, with a clock that is wrong all the time
    lab.events["hostA"].wait("KEEPALIVE_LOST", 10, peer="hostC")
    lab.switch.rejoin("hostC")
    lab.wait_heard("hostA", "hostC")
    lab.wait_heard("hostC", "hostA")
    report.check(lab.status("hostA")["state"] == "protected", "hosts whose clocks differ by years connect again")

    asked = {h: clocks[h].asked() for h in HOSTS}  # for the time in their logs, if for nothing else
    report.check(all(asked.values()), "the jump has reached all of them", asked)

    time.sleep(0.5)
    off = lab.poweroff("hostA")
    clocks["hostB"].jump(-3 * HOUR)  # in the middle of it
    running = lab.events["hostB"].wait("RUNNING", 15, off)
    clocks["hostB"].jump(8 * HOUR)
    client.wait_answer_after(running["time"])
    took = (running["time"] - off) / 1e6
    report.check(took < 1500, "a takeover is as quick as ever", "%.0f ms" % took)
    client.wait_acked(10)
    lab.boot("hostA")
    lab.wait_state("hostB", "vm1", "protected", 60)
    report.check(True, "and the VM is protected again, by hosts that are hours apart")
    client.wait_acked(10)
    report.client(client.stop())
    report.watch(watch.stop(), vm, 1)
    print("# %.0f ms to running; asked for the wall clock: %s" % (took, asked), flush=True)


if __name__ == "__main__":
    run(main)
