# SPDX-License-Identifier: GPL-2.0-or-later
"""mcd ends, in order or by SIGKILL, on each side: no VM dies, nothing is lost, protection returns."""
import time

from mclab.proc import wait_for
from mclab.scenario import run


def restart(report, lab, vm, host, how, what, moved=None, pause=0.0):
    """moved: where the VM may be afterwards besides `host`."""
    qemu = lab.qemu(host, vm)
    primary = lab.status(host, vm.name)["role"] == "primary"
    (lab.kill_mcd if how == "kill" else lab.stop_mcd)(host)
    alive = lab.qemu(host, vm)
    time.sleep(pause)
    lab.start_mcd(host)
    if primary:  # a waiting standby QEMU may go with its mcd
        report.check(alive == qemu, "QEMU outlives mcd" + what, (qemu, alive))


def where(lab, vm, hosts=("hostA", "hostB")):
    """Where it runs visibly: a copy that is held does not count."""
    def now():
        at = [h for h in hosts if lab.status(h, vm.name).get("state") in ("unprotected", "syncing", "protected")]
        return at if len(at) == 1 else None
    return wait_for(now, 10, "one host runs it")


def one(report, lab, vm, active, standby, host, how, what, pause=0.0):
    client = lab.start_client(vm, patience=60)
    client.wait_acked(20)
    watch = lab.watch(vm)
    restart(report, lab, vm, host, how, what, pause=pause)
    client.wait_acked(20, timeout=30)
    active = where(lab, vm)[0]
    standby = "hostB" if active == "hostA" else "hostA"
    lab.wait_state(active, vm.name, "protected", 60)
    summary = client.stop()
    report.client(summary, what)
    seen = watch.stop()
    report.check(not seen["visible_twice"], "it is visible at one host at a time" + what, seen)
    print("# %s: longest silence %.0f ms, runs on %s" % (what.strip(), summary["stall_ms"], active), flush=True)
    return active, standby


def leftovers(report, lab):
    """An interface of the plug netbuf whose VM nobody runs (of another kind here: not every kernel has ifb)."""
    h = lab.hosts["hostA"]
    h.run(["ip", "link", "add", "mq-0123456789ab", "type", "bridge"])
    h.run(["ip", "link", "set", "mq-0123456789ab", "alias", "mcd: output of VM gone"])
    named = [c for c in lab.request("hostA", "check")["checks"] if "mq-0123456789ab" in c["name"]]
    report.check(len(named) == 1 and not named[0]["ok"] and "ip link del" in named[0]["hint"],
                 "an interface that a former mcd left is named, with the cure", named)
    h.run(["ip", "link", "del", "mq-0123456789ab"])


def main(report, cluster):
    lab, vm = cluster.up(protect=False, dirty=2_000_000)
    leftovers(report, lab)
    client = lab.start_client(vm, patience=60)
    client.wait_acked(10)
    for how in ("stop", "kill"):
        qemu = lab.qemu("hostA", vm)
        restart(report, lab, vm, "hostA", how, " (unprotected, %s)" % how)
        lab.wait_state("hostA", vm.name, "unprotected", 10)
        client.wait_acked(10, timeout=30)
        report.check(lab.qemu("hostA", vm) == qemu, "the VM is taken over as it runs (unprotected, %s)" % how)
    report.client(client.stop(), " (unprotected)")

    lab.protect(vm, "hostA", "hostB")
    active, standby = "hostA", "hostB"
    for side in ("primary", "standby"):
        for how in ("kill", "stop"):
            host = active if side == "primary" else standby
            active, standby = one(report, lab, vm, active, standby, host, how, " (%s's mcd, %s)" % (side, how))
    # Too late to be first: the standby has taken over, the old copy is destroyed when its mcd is back.
    host = active
    active, standby = one(report, lab, vm, active, standby, host, "kill", " (primary's mcd away for 2 s)", pause=2.0)
    report.check(active != host, "the standby took over from a primary whose mcd stayed away", active)


if __name__ == "__main__":
    run(main)
