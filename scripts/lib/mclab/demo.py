# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/demo: a guest outlives its host, and its client's TCP connection does not notice."""
import argparse
import json
import re
import sys
import time

from .faults import FAULTS, PRIMARY, STANDBY, VOTER
from .lab import Lab, exit_status
from .proc import LabError
from .screen import Screen, barometer, stderr_or_stdout, timeline
from .vm import Disk, DiskLog

UNITS = {"": 1, "B": 1, "KB": 1000, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def size(text):
    m = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text)
    if not m or m[2].upper() not in UNITS:
        raise argparse.ArgumentTypeError("%s is not a size such as 5MB" % text)
    return int(float(m[1]) * UNITS[m[2].upper()])


def seconds(text):
    try:
        value = float(text.removesuffix("s"))
    except ValueError:
        value = 0
    if not 4 <= value <= 3600:
        raise argparse.ArgumentTypeError("%s is not a number of seconds from 4 to 3600" % text)
    return value


def arguments(argv):
    p = argparse.ArgumentParser(prog="demo", description="A real guest outlives its host, in namespaces of this machine.")
    p.add_argument("--fault", choices=sorted(FAULTS), default="primary", help="what breaks (primary)")
    p.add_argument("--delay", default="100ms", help="time between checkpoints (100ms)")
    p.add_argument("--dirty", type=size, default="2MB", help="memory the guest writes each 100 ms (2MB)")
    p.add_argument("--accel", choices=("tcg", "kvm"), help="what runs the guest: QEMU's emulator (tcg) or kvm")
    p.add_argument("--disk", action="store_true",
                   help="the guest writes each request to a disk, and fsyncs it, before it answers")
    p.add_argument("--seconds", type=seconds, default=12, help="how long the client runs; the fault comes half-way (12)")
    p.add_argument("--json", action="store_true", help="the result as one line of JSON on stdout, the rest on stderr")
    p.add_argument("-v", "--verbose", action="store_true", help="show every event of the three mcds")
    p.add_argument("--keep", action="store_true", help="keep the logs and say where")
    p.add_argument("--build", required=True, help=argparse.SUPPRESS)
    return p.parse_args(argv)


class Demo:
    def __init__(self, args):
        self.args, self.fault = args, FAULTS[args.fault]()
        self.screen = Screen(stderr_or_stdout(args.json))
        self.violations = []

    def on_event(self, event):
        data = event["data"]
        if event["event"] == "STATE_CHANGED" and data.get("role") != "standby":
            self.screen.vm_state = "%s on %s" % (data.get("to"), event["host"])
        if self.args.verbose:
            self.screen.line("          %s %s %s" % (event["host"], event["event"], json.dumps(data)))

    def run(self):
        with Lab(self.args.build, keep=self.args.keep, on_event=self.on_event) as lab:
            vm, client, watch = self.set_up(lab)
            before, off = self.strike(lab, client)
            running = self.recover(lab, client, off)
            time.sleep(max(0, self.args.seconds / 2 - (time.monotonic_ns() - off) / 1e9))
            summary = client.stop()
            self.screen.end_live()
            seen = watch.stop()
            self.violations += self.fault.verify(lab) if running else []
            if running and vm.disk:
                self.judge_disk(lab, vm, client)
            return self.conclude(lab, client, before, off, running, summary, seen, vm)

    def set_up(self, lab):
        screen = self.screen
        lab.add_hosts(PRIMARY, STANDBY, VOTER)
        lab.start_mcd()
        screen.step("three hosts are up, each with its mcd")
        vm = lab.add_vm("vm1", dirty=self.args.dirty, accel=self.args.accel,
                        disk=Disk() if self.args.disk else None)
        watch = lab.watch(vm)
        lab.start_vm(vm, PRIMARY)
        screen.step("vm1 has booted on hostA (%d MB, writes %.1f MB each 100 ms)" % (vm.memory, vm.dirty / 1e6))
        lab.protect(vm, PRIMARY, STANDBY, delay=self.args.delay)
        screen.step("vm1%s is protected by hostB, a checkpoint each %s" % (
            " with its disk" if vm.disk else "", self.args.delay))
        client = lab.start_client(vm, listener=screen.live)
        client.wait_acked(1)
        screen.step("a client sends requests over one TCP connection")
        return vm, client, watch

    def strike(self, lab, client):
        time.sleep(self.args.seconds / 2)
        client.wait_acked(1)
        before = lab.status(PRIMARY)
        if before.get("state") != "protected":
            raise LabError("vm1 is %s on hostA, not protected: %s" % (before.get("state"), before.get("reason")))
        off = self.fault.strike(lab)
        self.screen.step("*** " + self.fault.title + " ***")
        return before, off

    def recover(self, lab, client, off):
        """When the VM ran again, or None."""
        try:
            running = self.fault.running(lab, off, 20)
            client.wait_answer_after(running, 20)
        except LabError as e:
            self.violations.append("the VM does not go on: %s" % e)
            return None
        self.screen.step("vm1 goes on at %s, the client has its answers" % self.fault.survivor)
        return running

    def conclude(self, lab, client, before, off, running, summary, seen, vm):
        screen, violations = self.screen, self.violations
        first = client.first_answer_after(running) if running else None
        screen.line("\nTimeline, from the %s" % ("power-off" if self.args.fault != "link" else "cut"))
        timeline(screen, off, self.fault.rows(lab, off) + [("running", running), ("first answer", first)])
        screen.line("\nBarometer, before the fault")
        barometer(screen, before)
        self.judge(summary, seen, vm)
        violations += lab.sanitizer_reports()
        screen.line("\nVerdict")
        screen.line("  %d requests acknowledged, %d lost or changed, %d reconnects, longest silence %.0f ms" % (
            summary["acked"], summary["lost"], summary["reconnects"], summary["stall_ms"]))
        if summary["stall_to_ns"] < off or summary["stall_from_ns"] > (running or off):
            screen.line("  (the longest silence was not the one at the fault)")
        screen.line("  the guest's own memory check: %s" % (summary.get("check") or "none"))
        for v in violations:
            screen.line("  VIOLATION: %s" % v)
        screen.line("  " + ("FAILED" if violations else "The VM outlived the fault; nothing was lost."))
        if self.args.json:
            print(json.dumps({"acked": summary["acked"], "lost": summary["lost"],
                              "reconnects": summary["reconnects"], "stall_ms": summary["stall_ms"],
                              "poweroff_to_running_ms": running and round((running - off) / 1e6, 1)}))
        return 1 if violations else 0

    def judge_disk(self, lab, vm, client):
        """The survivor's image, as a power failure would leave it: whole, and with every answered request."""
        host = lab.hosts[self.fault.survivor]
        log = DiskLog(vm.disk.replica(host), lab.dir)
        answered = [r["n"] for r in client.requests()]
        missing = sum(n not in log.chains for n in answered)
        last = max(answered)
        chain = lab.ask(vm, "GET %d" % last).split()[-1]
        self.screen.line("\nDisk, at %s: %s, %d of %d acknowledged requests on it" % (
            host.name, "clean" if log.clean else "DAMAGED", len(answered) - missing, len(answered)))
        if not log.clean:
            self.violations.append("the file system is damaged: " + log.report[-300:])
        if missing or log.chains.get(last) != chain:
            self.violations.append("%d acknowledged requests are not on the disk" % max(missing, 1))

    def judge(self, summary, seen, vm):
        say = self.violations.append
        if not summary["acked"]:
            say("no request was acknowledged")
        if summary["lost"]:
            say("%d acknowledged requests are missing or changed" % summary["lost"])
        if summary["bad"]:
            say("%d wrong answers: %s" % (summary["bad"], summary["error"]))
        if summary["reconnects"]:
            say("the connection broke: %s" % summary["error"])
        if not summary["complete"]:
            say("the client could not verify everything: %s" % summary["error"])
        mac = next(m for m in seen["macs"] if m["mac"] == vm.mac)
        if seen["missed"]:
            say("the watch at the switch missed %d frames" % seen["missed"])
        if seen["visible_twice"]:
            say("the VM was visible at two hosts: %s" % mac["moves"])
        elif len(mac["moves"]) != self.fault.moves:
            say("the VM moved %d times instead of %d: %s" % (len(mac["moves"]), self.fault.moves, mac["moves"]))


def main(argv=None):
    args = arguments(argv)
    return exit_status("demo", Demo(args).run)


if __name__ == "__main__":
    sys.exit(main())
