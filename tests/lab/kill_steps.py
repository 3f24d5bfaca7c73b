# SPDX-License-Identifier: GPL-2.0-or-later
"""tests/lab/kill-steps: mcd is killed at each step of an epoch, with the plug; the one that follows adopts."""
import argparse
import sys
import time

from mclab import Lab, LabError
from mclab.proc import now, wait_for
from mclab.scenario import Report

STEPS = ("TICK", "PAUSE", "BARRIER", "SAVE", "SCAN", "COPY", "RESUME", "INSPECT", "SEND", "ACKED", "RELEASE", "DONE")
# A host of the lab takes 10 seconds to start an mcd, which is to adopt before the standby takes over.
KEEPALIVE, MISSES, DELAY = "1s", 60, "200ms"
BOOT, PROTECT, ANSWER = 180, 240, 60
EPOCHS = 40  # until the kill: by then the client's connection is held and released


def arguments(argv):
    p = argparse.ArgumentParser(prog="tests/lab/kill-steps", description=__doc__)
    p.add_argument("--kernel", default="6.12")
    p.add_argument("--accel", default="kvm", choices=("kvm", "tcg"))
    p.add_argument("--vhost", action="store_true", help="the guest's NIC uses vhost-net")
    p.add_argument("--steps", default=",".join(STEPS), help="some of " + ",".join(STEPS))
    p.add_argument("--build", required=True, help=argparse.SUPPRESS)
    return p.parse_args(argv)


def where(lab, vm):
    """The host that runs it visibly, once it is one."""
    def one_host():
        at = [h for h in ("hostA", "hostB") if lab.status(h, vm.name).get("state") in
              ("unprotected", "syncing", "protected")]
        return at[0] if len(at) == 1 else None
    return wait_for(one_host, ANSWER, "one host runs it")


def one(report, lab, vm, active, step):
    what = " (killed at %s on %s)" % (step, active)
    lab.stop_mcd(active)
    lab.start_mcd(active, env={"MCD_FAILPOINT": "%s:%d" % (step, EPOCHS)})
    if where(lab, vm) != active:
        raise LabError("the standby took over before %s was armed" % step)
    lab.wait_state(active, vm.name, "protected", PROTECT)
    client = lab.start_client(vm, window=4, patience=2 * ANSWER)
    watch = lab.watch(vm)
    client.wait_acked(5, ANSWER)
    host = lab.hosts[active]
    wait_for(lambda: host.mcd.poll() is not None, ANSWER, "the step %s is reached" % step)
    died = time.monotonic()
    lab.start_mcd(active)
    winner = where(lab, vm)
    client.wait_acked(20, ANSWER)
    lab.wait_state(winner, vm.name, "protected", PROTECT)
    summary, seen = client.stop(ANSWER), watch.stop()
    report.client(summary, what)
    report.check(not seen["visible_twice"], "it is visible at one host at a time" + what, seen)
    print("# %s: runs on %s, protected %.1f s after the kill, longest silence %.0f ms" % (
        step, winner, time.monotonic() - died, summary["stall_ms"]), flush=True)
    return winner


def lose_output(report, lab, vm, active):
    """Somebody's tc shrinks the plug: what the guest says is lost, and that is not called protection."""
    at = now()
    lab.hosts[active].run(["sh", "-c", "for q in /sys/class/net/mq-*; do tc qdisc change dev ${q##*/} root handle "
                           "$(tc qdisc show dev ${q##*/} | cut -d' ' -f3) plug limit 100; done"])
    client = lab.start_client(vm, window=4, patience=2 * ANSWER)
    ended = lab.events[active].wait("PROTECTION_ENDED", ANSWER, at)
    report.check("were lost" in ended["data"]["reason"], "lost output ends the protection", ended)
    lab.wait_state(active, vm.name, "protected", PROTECT)
    client.wait_acked(20, ANSWER)
    report.client(client.stop(ANSWER), " (after lost output)")
    report.check(lab.status(active, vm.name)["lost_frames"] > 0, "lost output is counted")


def main(argv):
    args, report = arguments(argv), Report()
    with Lab(args.build, keepalive=KEEPALIVE, misses=MISSES, delay=DELAY, log_level="debug") as lab:
        lab.add_hosts("hostA", "hostB", kernel=args.kernel, load=["plug", "kvm"], boot_timeout=BOOT)
        lab.add_hosts("hostC")
        for host in ("hostA", "hostB"):
            lab.write_config(host, "netbuf = plug")
        lab.start_mcd()
        vm = lab.add_vm("vm1", accel=args.accel, dirty=500_000, region=16,
                        options=["-netdev tap,id=net0,vhost=on"] if args.vhost else [])
        lab.start_vm(vm, "hostA", BOOT)
        lab.request("hostA", "protect", timeout=PROTECT, vm=vm.name, peer="hostB")
        active = "hostA"
        if args.vhost:
            comms = lab.hosts[active].run(["sh", "-c", "cat /proc/[0-9]*/task/*/comm"], check=False)
            report.check("vhost-" in comms, "the kernel moves the guest's frames")
        lose_output(report, lab, vm, active)
        for step in args.steps.split(","):
            active = one(report, lab, vm, active, step)
    return 1 if report.failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except LabError as e:
        print("tests/lab/kill-steps: %s" % e, file=sys.stderr)
        sys.exit(2)
