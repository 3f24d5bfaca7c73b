# SPDX-License-Identifier: GPL-2.0-or-later
"""tests/lab/run: a guest outlives its QEMU and its host, on hosts with kernels of their own."""
import argparse
import json
import sys

from mclab import Lab, LabError
from mclab.lab import exit_status
from mclab.proc import now
from mclab.quiet import look
from mclab.screen import Screen, barometer, stderr_or_stdout, timeline
from mclab.vm import Disk
from mclab.vmhost import KERNELS

HOSTS, VOTER = ("hostA", "hostB"), "hostC"
# Emulated hosts on few cores stand still for hundreds of ms: what is true of them is not of real ones.
KEEPALIVE, MISSES, DELAY = "500ms", 10, "200ms"
BOOT, PROTECT, TAKEOVER, ANSWER = 180, 240, 60, 60  # seconds of patience
DIRTY = {"6.12": "pagemap-scan", "6.1": "soft-dirty"}


def arguments(argv):
    p = argparse.ArgumentParser(prog="tests/lab/run", description="The demo's story on lab hosts.")
    p.add_argument("--kernel", choices=KERNELS, default="6.12", help="of hostA and hostB (6.12)")
    p.add_argument("--transport", choices=("rdma", "tcp"), default="rdma", help="of the checkpoints (rdma)")
    p.add_argument("--netbuf", choices=("plug", "relay"), default="plug", help="what holds the output (plug)")
    p.add_argument("--accel", choices=("kvm", "tcg"), default="kvm", help="of the guest (kvm)")
    p.add_argument("--fault", choices=("qemu", "host", "both"), default="both",
                   help="its QEMU is killed, its host is switched off, or one after the other (both)")
    p.add_argument("--disk", action="store_true", help="the guest writes each request to a disk before it answers")
    p.add_argument("--pin-all", action="store_true", help="all checkpoint memory is registered with RDMA at once")
    p.add_argument("--requests", type=int, default=20, help="answers that the client must have before and after each fault (20)")
    p.add_argument("--json", action="store_true", help="the result as one line of JSON on stdout, the rest on stderr")
    p.add_argument("-v", "--verbose", action="store_true", help="show every event of the mcds")
    p.add_argument("--keep", action="store_true", help="keep the logs and say where")
    p.add_argument("--build", required=True, help=argparse.SUPPRESS)
    return p.parse_args(argv)


def kill_qemu(lab, vm, host):
    at = now()
    lab.hosts[host].kill9(lab.qemu(host, vm))
    return at


FAULTS = {"qemu": (kill_qemu, "vm1's QEMU on %s is killed"),
          "host": (lambda lab, vm, host: lab.poweroff(host), "%s, which runs the VM, is switched off")}


class Story:
    def __init__(self, args):
        self.args, self.violations, self.acts = args, [], []
        self.screen = Screen(stderr_or_stdout(args.json))

    def on_event(self, event):
        if self.args.verbose:
            self.screen.line("          %s %s %s" % (event["host"], event["event"], json.dumps(event["data"])))

    def run(self):
        with Lab(self.args.build, keep=self.args.keep, on_event=self.on_event, keepalive=KEEPALIVE, misses=MISSES,
                 delay=DELAY, mtu=4200, log_level="debug") as lab:
            try:
                return self.tell_all(lab)
            except LabError:
                self.describe(lab)
                raise

    def describe(self, lab):
        """What each host says of the VM when the story cannot go on."""
        for host in HOSTS:
            try:
                v = lab.status(host)
                self.screen.line("%s: %s, %s (%s); epoch %s, lag %.0f ms, alarm '%s'" % (
                    host, v.get("role"), v.get("state"), v.get("reason"), v.get("epoch"), v.get("lag_ms", 0), v.get("alarm")))
                barometer(self.screen, v)
            except LabError as e:
                self.screen.line("%s: %s" % (host, e))

    def tell_all(self, lab):
        vm, client = self.set_up(lab)
        active, standby = HOSTS
        faults = ["qemu", "host"] if self.args.fault == "both" else [self.args.fault]
        for fault in faults:
            running = self.act(lab, vm, client, fault, active, standby)
            if running is None:
                break
            active, standby = standby, active
            if fault != faults[-1]:
                # Asking for its state again and again would slow an emulated host down.
                lab.events[active].wait("STATE_CHANGED", PROTECT, running, to="protected")
                self.screen.step("vm1 is protected again, by %s" % standby)
        summary = client.stop(ANSWER * 3)
        self.screen.end_live()
        self.judge(summary)
        self.judge_disk(lab, vm, client, active)
        self.violations += lab.sanitizer_reports()
        return self.conclude(summary)

    # --- the beginning ----------------------------------------------------

    def options(self):
        """Lines of mcd.conf for the lab hosts; the voter has neither RDMA nor plug."""
        return "netbuf = %s\ntransport = %s" % (self.args.netbuf, self.args.transport)

    def set_up(self, lab):
        args, screen = self.args, self.screen
        load = ["kvm"] if args.accel == "kvm" else []
        load += ["plug"] if args.netbuf == "plug" else []
        load += ["rdma"] if args.transport == "rdma" else []
        lab.add_hosts(*HOSTS, kernel=args.kernel, load=load, boot_timeout=BOOT)
        lab.add_hosts(VOTER)
        for host in HOSTS:
            lab.write_config(host, self.options())
        screen.step("hostA and hostB have booted Linux %s" % lab.hosts["hostA"].run(["uname", "-r"]).strip())
        lab.start_mcd()
        screen.step("three mcds run")
        vm = lab.add_vm("vm1", accel=args.accel, memory=128, dirty=200_000, region=16,
                        disk=Disk(megabytes=16) if args.disk else None,
                        pin_all=args.pin_all, max_buffer="40MiB" if args.pin_all else None)
        lab.start_vm(vm, "hostA", BOOT)
        screen.step("vm1 has booted on hostA under %s" % args.accel.upper())
        lab.request("hostA", "protect", timeout=PROTECT, vm=vm.name, peer="hostB")
        screen.step("vm1 is protected by hostB, a checkpoint each %s" % DELAY)
        self.inspect(lab)
        client = lab.start_client(vm, window=4, patience=2 * ANSWER, listener=screen.live)
        client.wait_acked(1, ANSWER)
        screen.step("a client sends requests over one TCP connection")
        return vm, client

    def inspect(self, lab):
        """What is under test is really in use."""
        args, status = self.args, lab.mcctl("hostA", "status")
        vm = status["vms"][0]
        for key, found, wanted in (("netbuf", status["netbuf"], args.netbuf), ("transport", vm["transport"], args.transport),
                                   ("dirty tracking", status["dirty"], DIRTY[args.kernel])):
            if found != wanted:
                raise LabError("hostA has %s = %s, not %s" % (key, found, wanted))
        buffer = vm["buffer"]  # of which the disks have a part; this guest needs a slab or two of it
        if args.pin_all and buffer["in_use"] < buffer["budget"] / 2:
            raise LabError("pin-all is on, and %(in_use)d of %(budget)d bytes are there" % buffer)
        self.screen.step("checked: %s, %s, %s" % (vm["transport"], status["netbuf"], status["dirty"]))

    # --- a fault and what comes of it -------------------------------------

    def act(self, lab, vm, client, fault, active, standby):
        """When the VM ran again, None if it did not."""
        screen = self.screen
        watch = lab.watch(vm)
        client.wait_acked(self.args.requests, ANSWER)
        before = lab.status(active)
        if before.get("state") != "protected":
            raise LabError("vm1 is %s on %s, not protected: %s" % (before.get("state"), active, before.get("reason")))
        strike, title = FAULTS[fault]
        off = strike(lab, vm, active)
        screen.step("*** " + title % active + " ***")
        try:
            running = lab.events[standby].wait("RUNNING", TAKEOVER, off)["time"]
            client.wait_answer_after(running, ANSWER)
        except LabError as e:
            self.violations.append("the VM does not go on after the fault '%s': %s" % (fault, e))
            return None
        screen.step("vm1 goes on at %s, the client has its answers" % standby)
        client.wait_acked(self.args.requests, ANSWER)
        checked = lab.ask(vm, "CHECK", ANSWER)
        if not checked.startswith("CHECK OK"):
            self.violations.append("the guest's memory is not what it wrote: %s" % checked)
        self.judge_watch(watch.stop(), vm, fault)
        self.tell(lab, client, fault, active, standby, before, off, running)
        return running

    def tell(self, lab, client, fault, active, standby, before, off, running):
        screen, events = self.screen, lab.events[standby]
        suspected = events.find("SUSPECTED", off) or events.find("KEEPALIVE_LOST", off, peer=active)
        won, loaded = events.find("VOTE_WON", off), events.find("DEVICES_LOADED", off)
        first = client.first_answer_after(running)
        screen.line("\nTimeline, from the fault at %s" % active)
        timeline(screen, off, [("suspicion", suspected and suspected["time"]), ("vote won", won and won["time"]),
                               ("device state loaded", loaded and loaded["time"]), ("running", running),
                               ("first answer", first)])
        screen.line("\nBarometer, before the fault")
        barometer(screen, before)
        screen.line()
        self.acts.append({"fault": fault, "running_ms": round((running - off) / 1e6), "answer_ms":
                          first and round((first - off) / 1e6), "pause_p50_ms": before["pause"]["p50_ms"],
                          "pause_p99_ms": before["pause"]["p99_ms"], "epochs": before["pause"]["count"]})

    # --- the verdict ------------------------------------------------------

    def judge_watch(self, seen, vm, fault):
        mac = next(m for m in seen["macs"] if m["mac"] == vm.mac)
        if seen["missed"]:
            self.violations.append("the watch at the switch missed %d frames" % seen["missed"])
        if seen["visible_twice"] or len(mac["moves"]) != 1:
            self.violations.append("after the fault '%s' the VM moved so: %s" % (fault, mac["moves"]))

    def judge(self, summary):
        for bad, text in ((not summary["acked"], "no request was acknowledged"),
                          (summary["lost"], "%d acknowledged requests are missing or changed" % summary["lost"]),
                          (summary["bad"], "%d wrong answers: %s" % (summary["bad"], summary["error"])),
                          (summary["reconnects"], "the connection broke: %s" % summary["error"]),
                          (not summary["complete"], "the client could not verify everything: %s" % summary["error"]),
                          (not summary["check"].startswith("CHECK OK"), "the guest's memory: %s" % summary["check"])):
            if bad:
                self.violations.append(text)

    def judge_disk(self, lab, vm, client, host):
        if not vm.disk or not lab.hosts[host].up:
            return
        disk = look(lab, vm, host)
        missing = [r["n"] for r in client.requests() if disk.chains.get(r["n"]) != r["chain"]]
        if missing or not disk.clean:
            self.violations.append("%d acknowledged requests are not on the disk; the file system: %s" % (
                len(missing), "clean" if disk.clean else disk.report))
        self.screen.step("the disk at %s has %d requests" % (host, len(disk.chains)))

    def conclude(self, summary):
        screen = self.screen
        screen.line("Verdict")
        screen.line("  %d requests acknowledged, %d lost or changed, %d reconnects, longest silence %.0f ms" % (
            summary["acked"], summary["lost"], summary["reconnects"], summary["stall_ms"]))
        screen.line("  the guest's own memory check: %s" % (summary["check"] or "none"))
        for v in self.violations:
            screen.line("  VIOLATION: %s" % v)
        screen.line("  " + ("FAILED" if self.violations else "The VM outlived it all; nothing was lost."))
        if self.args.json:
            a = self.args
            print(json.dumps({"kernel": a.kernel, "transport": a.transport, "netbuf": a.netbuf, "accel": a.accel,
                              "acts": self.acts, "acked": summary["acked"], "lost": summary["lost"],
                              "reconnects": summary["reconnects"], "violations": self.violations}))
        return 1 if self.violations else 0


def main():
    args = arguments(sys.argv[1:])
    return exit_status("tests/lab/run", Story(args).run)


if __name__ == "__main__":
    sys.exit(main())
