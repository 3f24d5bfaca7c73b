# SPDX-License-Identifier: GPL-2.0-or-later
# check: plain, beside others
"""max-buffer = 16MiB and a guest that writes many times that per epoch: on neither host does mcd use
more, the epochs are whole all the same, and the knobs take effect on the running session.

A sanitizer's own memory would hide mcd's, so this is a test of the plain build."""
import time

from mclab.control import CommandError
from mclab.meter import FIXED, MIB, Meter, anonymous, spilled
from mclab.proc import wait_for
from mclab.scenario import run

BUDGET = 16 * MIB


class BufferMeter(Meter):
    """And what either mcd says that it buffers, in the end and at most."""

    def stop(self):
        super().stop()
        found = {h: self.lab.status(h)["buffer"] for h in self.base}
        self.buffer = {h: b["in_use"] for h, b in found.items()}
        self.peak = {h: b["peak"] for h, b in found.items()}
        return self

    def check(self, report, what, budgets):
        for host, budget in budgets.items():
            report.check(self.buffer[host] <= budget and self.peak[host] <= budget,
                         "the buffer of %s stays within max-buffer %s" % (host, what), (self.buffer, self.peak))
            report.check(self.memory[host] <= budget + FIXED,
                         "mcd on %s uses no more than max-buffer and the fixed part %s" % (host, what),
                         {h: m / MIB for h, m in self.memory.items()})


def rate(lab, vm, mb):
    answer = lab.ask(vm, "RATE %d" % (mb * 1000000))
    if not answer.startswith("OK"):
        raise RuntimeError("the guest does not know RATE: " + answer)


def protect_a_busy_guest(report, lab, vm):
    """More than fits: protected all the same, or a refusal that says what to do."""
    rate(lab, vm, 50)
    try:
        lab.protect(vm, "hostA", "hostB")
        report.check(True, "a guest that writes more than max-buffer allows is protected all the same")
        return
    except CommandError as e:
        report.check(e.cls == "GuestUnsuitable" and "max-buffer" in e.message,
                     "a guest that writes too much to be copied is refused, and told the cure", e)
    report.check(lab.status("hostA")["state"] == "unprotected", "it runs on unprotected")
    rate(lab, vm, 0)
    lab.protect(vm, "hostA", "hostB")


def epochs_per_second(lab, seconds=3.0):
    first, began = lab.status("hostA")["epoch"], time.monotonic()
    time.sleep(seconds)
    return (lab.status("hostA")["epoch"] - first) / (time.monotonic() - began)


def knobs(report, lab, vm, base):
    rate(lab, vm, 1)
    for delay, low, high in (("1s", 0.5, 1.5), ("50ms", 8, 21), ("200ms", 2.5, 6)):
        answer = lab.mcctl("hostA", "set", "vm1", "delay=" + delay)
        time.sleep(0.3)  # the epoch that runs
        found = epochs_per_second(lab)
        report.check(low <= found <= high, "delay=%s shows in the number of epochs" % delay, (found, answer))

    answer = lab.mcctl("hostA", "set", "vm1", "max-buffer=96MiB")
    report.check(answer["max_buffer"] == 96 * MIB and lab.status("hostA")["buffer"]["budget"] == 96 * MIB,
                 "a larger max-buffer is what status shows", answer)
    rate(lab, vm, 50)
    meter = BufferMeter(lab, base)
    wait_for(lambda: lab.status("hostA")["buffer"]["in_use"] > BUDGET, 20, "the larger buffer is used")
    time.sleep(2)
    meter.stop().check(report, "after it was raised (on hostA only)", {"hostA": 96 * MIB, "hostB": BUDGET})

    lab.mcctl("hostA", "set", "vm1", "max-buffer=16MiB")
    epoch = lab.status("hostA")["epoch"]
    wait_for(lambda: lab.status("hostA")["epoch"] > epoch + 1, 10, "epochs go on")
    meter = BufferMeter(lab, base)
    time.sleep(2)
    meter.stop().check(report, "after it was lowered", {"hostA": BUDGET, "hostB": BUDGET})


def main(report, cluster):
    lab, vm = cluster.up(protect=False, memory=384, region=192, max_buffer="16MiB")
    client = lab.start_client(vm)
    client.wait_acked(10)
    base = {h: anonymous(lab, h) for h in ("hostA", "hostB")}
    protect_a_busy_guest(report, lab, vm)
    client.wait_acked(5)

    rate(lab, vm, 50)
    meter = BufferMeter(lab, base)
    time.sleep(5)
    client.wait_acked(5)
    meter.stop().check(report, "at 50 MB per 100 ms", {"hostA": BUDGET, "hostB": BUDGET})

    # An epoch ends early once half of max-buffer is dirty, but it is looked at four times a delay only.
    lab.mcctl("hostA", "set", "vm1", "delay=4s")
    rate(lab, vm, 150)
    meter = BufferMeter(lab, base)
    time.sleep(6)
    rate(lab, vm, 1)
    lab.mcctl("hostA", "set", "vm1", "delay=100ms")
    wait_for(lambda: lab.status("hostA")["lag_ms"] < 1000, 15, "the large epochs are through")
    meter.stop().check(report, "in the burst", {"hostA": BUDGET, "hostB": BUDGET})
    largest = lab.status("hostA")["dirty"]["max_bytes"]
    report.check(largest > 100e6, "an epoch was many times max-buffer", "%.0f MB" % (largest / 1e6))
    report.check(meter.spilled["hostB"] > 0, "what does not fit is spilled by the standby")

    knobs(report, lab, vm, base)
    report.check(lab.status("hostA")["state"] == "protected", "the VM is protected all the time", lab.status("hostA"))
    client.wait_acked(5)

    # In the middle of an epoch, with slabs of it staged: what is not whole must not be in the way.
    rate(lab, vm, 150)
    wait_for(lambda: spilled(lab, "hostB") > 0, 20, "the standby stages a large epoch", 0.001)
    off = lab.poweroff("hostA")
    running = lab.events["hostB"].wait("RUNNING", 15, off)
    client.wait_answer_after(running["time"])
    rate(lab, vm, 1)
    client.wait_acked(5)
    report.client(client.stop(), " over a takeover")
    report.check(not spilled(lab, "hostB"), "no spilled slab is left")


if __name__ == "__main__":
    run(main)
