# SPDX-License-Identifier: GPL-2.0-or-later
"""Three hosts with real corosync: voters from its node list, every VM in every host's status, a gate
that closes with quorum, and a takeover that does not wait for corosync."""
import subprocess
import sys

from mclab import corosync
from mclab.proc import now, wait_for
from mclab.scenario import HOSTS, run


def cluster_of(lab, host):
    return lab.mcctl(host, "status").get("cluster", "")


def shown(lab, host):
    """What that host's status says of other hosts' copies of vm1: {host: (role, state)}."""
    return {v["host"]: (v["role"], v["state"]) for v in lab.mcctl(host, "status")["vms"]
            if v["name"] == "vm1" and "host" in v}


def wait_shown(lab, host, wanted, timeout=5):
    wait_for(lambda: shown(lab, host) == wanted, timeout,
             lambda: "%s shows %s instead of %s" % (host, shown(lab, host), wanted), 0.05)


def wait_cluster(lab, host, text, timeout=10):
    wait_for(lambda: text in cluster_of(lab, host), timeout,
             lambda: "%s says \"%s\", not \"%s\"" % (host, cluster_of(lab, host), text), 0.05)


def voters(report, lab):
    for h in HOSTS:
        wait_cluster(lab, h, "corosync (quorate, ring ")
    s = lab.mcctl("hostB", "status")
    report.check(s["voters"] == {"connected": 3, "total": 3} and s["host"] == "hostB",
                 "names, addresses and voters come from corosync's node list", s)
    wait_shown(lab, "hostC", {"hostA": ("primary", "protected"), "hostB": ("standby", "standby")})
    report.check(len(lab.mcctl("hostC", "status", "vm1")["vms"]) == 2,
                 "a host without the VM shows it, and where it is")
    mine = [v for v in lab.mcctl("hostA", "status")["vms"] if "host" not in v]
    report.check(len(mine) == 1 and "epoch" in mine[0], "a host's own VMs are shown in full", mine)


def isolated(report, lab):
    cut = now()
    lab.switch.isolate("hostC")
    lost = lab.events["hostC"].wait("QUORUM_LOST", 10, cut)
    s = lab.mcctl("hostC", "status")
    report.check(not s["cluster"].startswith("corosync (quorate") and s.get("cluster_alarm"),
                 "the gate of an isolated host is closed, and status says why", s["cluster"])
    for h in ("hostA", "hostB"):  # their ring may just be forming
        wait_cluster(lab, h, "corosync (quorate")
    report.check(True, "the gates of the others are open")
    wait_shown(lab, "hostC", {})
    report.check(lab.status("hostA")["state"] == "protected", "the VM stays protected")
    healed = now()
    lab.switch.rejoin("hostC")
    lab.events["hostC"].wait("QUORUM", 15, healed)
    wait_shown(lab, "hostC", {"hostA": ("primary", "protected"), "hostB": ("standby", "standby")})
    report.check(True, "back in the cluster its gate opens and it is told of the VM again")
    print("# gate closed %.0f ms after the cut" % ((lost["time"] - cut) / 1e6), flush=True)


def frozen(report, lab):
    if not lab.hosts["hostC"].freezer.dir:
        report.skip("no cgroup freezer on this machine: a frozen host cannot be tried")
        return
    before = cluster_of(lab, "hostC")
    lab.hosts["hostC"].freezer.freeze()
    wait_for(lambda: "hostC" not in str(lab.hosts["hostA"].run(["corosync-quorumtool", "-l"], check=False)), 15,
             "the others go on without hostC", 0.1)
    thaw = now()
    lab.hosts["hostC"].freezer.thaw()
    first = cluster_of(lab, "hostC")
    lab.events["hostC"].wait("QUORUM", 15, thaw)
    closed = lab.events["hostC"].find("QUORUM_LOST", thaw)
    # On a busy machine we may look only after corosync has confirmed it, which takes another ring.
    report.check(first != before and closed,
                 "a host that wakes up does not take itself for quorate before corosync has confirmed it",
                 (before, first, closed))


def corosync_dies(report, lab, cs):
    at = now()
    cs.kill("hostC")
    lab.events["hostC"].wait("QUORUM_LOST", 5, at)
    s = lab.mcctl("hostC", "status")
    report.check(s["cluster"] == "corosync (not answering)" and "corosync" in s.get("cluster_alarm", ""),
                 "corosync killed: gate closed, and status says what to do", (s["cluster"], s.get("cluster_alarm")))
    report.check(s["voters"]["total"] == 3, "the voters stay those of its node list")
    back = now()
    cs.start("hostC")
    lab.events["hostC"].wait("QUORUM", 15, back)
    report.check(True, "corosync started again: mcd is connected again by itself")


def takeover(report, lab, vm):
    client = lab.start_client(vm)
    client.wait_acked(5)
    off = lab.poweroff("hostA")
    running = lab.events["hostB"].wait("RUNNING", 15, off)
    ms = (running["time"] - off) / 1e6
    wait_shown(lab, "hostC", {"hostB": ("primary", "unprotected")}, 10)
    client.wait_answer_after(running["time"])
    report.check(ms < 1000 * corosync.DETECTION * 0.6, "a takeover does not wait for corosync", "%.0f ms" % ms)
    report.client(client.stop())
    print("# power-off to running: %.0f ms; corosync alone needs %.0f" % (ms, 1000 * corosync.DETECTION), flush=True)


def without(report, lab, cs):
    """hostC's mcd again, with corosync gone for good."""
    lab.stop_mcd("hostC")
    cs.kill("hostC")
    lab.write_config("hostC")  # auto, with [host] sections
    lab.start_mcd("hostC")
    report.check(cluster_of(lab, "hostC") == "static", "auto is static where corosync does not answer",
                 cluster_of(lab, "hostC"))
    wait_for(lambda: lab.mcctl("hostC", "status")["voters"]["connected"] == 2, 10, "hostC and hostB are connected")
    report.check(True, "and its votes count among those who have the same hosts from corosync")
    lab.stop_mcd("hostC")
    cs.write_config("hostC")
    p = lab.hosts["hostC"].spawn([lab.tool("mcd/mcd"), "--config", "/run/lab/etc/mcd.conf"],
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        out, _ = p.communicate(timeout=15)
    except subprocess.TimeoutExpired:
        p.kill()
        out, _ = p.communicate()
    report.check(p.returncode == 1 and "cluster = corosync cannot be used" in out and "start corosync" in out,
                 "cluster = corosync without corosync is refused with a hint", out[-300:])


def main(report, cluster):
    if not corosync.available():
        print(corosync.MISSING)
        sys.exit(77)
    lab, cs, vm = corosync.cluster_with(cluster, dirty=1_000_000)
    voters(report, lab)
    isolated(report, lab)
    frozen(report, lab)
    corosync_dies(report, lab, cs)
    takeover(report, lab, vm)
    without(report, lab, cs)


if __name__ == "__main__":
    run(main)
