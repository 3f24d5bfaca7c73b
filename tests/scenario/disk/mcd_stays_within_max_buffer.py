# SPDX-License-Identifier: GPL-2.0-or-later
# check: plain, beside others
"""max-buffer = 16MiB, and a guest that writes to its disk faster than the link to the standby is: on
neither host does mcd use more.  The writes wait for the link, or the VM goes on alone for a while.

A sanitizer's own memory would hide mcd's, so this is a test of the plain build."""
import time

from mclab.diskload import Load
from mclab.meter import FIXED, MIB, Meter, anonymous
from mclab.proc import now
from mclab.quiet import outlives_power_loss
from mclab.scenario import run
from mclab.vm import Disk

BUDGET = 16 * MIB
SHARE = BUDGET // 4  # of disk writes, see mcd/README.md
REQUEST = MIB + 4096 # may be in the queue beyond it: the largest, and what the queue notes of it
REPLICA = 7 * MIB    # what a standby takes beyond it, see diskmirror/README.md
SLOW = 5             # MB a second


def slow_link(host, to):
    """Keep-alives and votes are small, and no matter of ours: only what is large has to queue."""
    host.run(["tc", "qdisc", "add", "dev", "eth1", "root", "handle", "1:", "htb"])
    host.run(["tc", "class", "add", "dev", "eth1", "parent", "1:", "classid", "1:10", "htb", "rate", "%dmbit" % (8 * SLOW)])
    host.run(["nft", "table ip slow { chain out { type filter hook output priority 0; "
              "ip daddr %s ip length > 1000 meta priority set 0x00010010; }; }" % to.address])


def main(report, cluster):
    lab, vm = cluster.up(protect=False, max_buffer="16MiB", disk=Disk(megabytes=64))
    base = {h: anonymous(lab, h) for h in ("hostA", "hostB")}
    client = lab.start_client(vm, think=5)
    client.wait_acked(10)
    meter = Meter(lab, base)
    lab.protect(vm, "hostA", "hostB")
    free = Load(lab, vm, 4).rate()
    slow_link(lab.hosts["hostA"], lab.hosts["hostB"])
    at = now()
    load = Load(lab, vm, 8)
    peak = {}
    while load.is_alive():
        status = lab.status("hostA")
        peak["state"] = status["state"]
        for k, v in status.get("disks", {}).items():
            peak[k] = max(peak.get(k, 0), v)
        time.sleep(0.1)
    slow = load.rate()
    lab.hosts["hostA"].run(["tc", "qdisc", "del", "dev", "eth1", "root"])
    most = meter.stop().memory
    lost = [e["data"]["reason"] for e in lab.events["hostA"].all if e["event"] == "PROTECTION_ENDED" and e["time"] > at]
    print("# protection ended %d times: %s" % (len(lost), lost), flush=True)
    lab.wait_state("hostA", vm.name, "protected", 60)
    print("# %.0f writes/s, over the slow link %.0f; beyond the start %s; %s" % (
        free, slow, {h: "%.1f MiB" % (m / MIB) for h, m in most.items()}, peak), flush=True)
    report.check(SHARE / 2 < peak["queued_peak"] <= SHARE + REQUEST,
                 "what waits to be sent stays within the disks' share of max-buffer", peak)
    for host, more in (("hostA", REQUEST), ("hostB", REPLICA)):
        used = most[host]
        report.check(used <= BUDGET + FIXED + more, "mcd on %s uses no more than max-buffer and the fixed part" % host,
                     "%.1f MiB" % (used / MIB))
    client.wait_acked(5)
    outlives_power_loss(report, lab, vm, client)


if __name__ == "__main__":
    run(main)
