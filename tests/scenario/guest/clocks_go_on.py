# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest's clocks, protected and after a takeover: the monotonic one neither goes back nor stands, and the wall clock is set
again by Debian's own QEMU guest agent in the guest; an agent that cannot be talked to harms nothing."""
import time

from mclab.guestclock import Agent, Reading
from mclab.scenario import run

SOCKET = "/run/lab/run/vm1-agent.sock"
BOUND = 0.1  # seconds: how right the clock must be, when the machine is as busy as in scripts/check


def connect(lab, host):
    return Agent(lab.hosts[host].path("run", "vm1-agent.sock"))


def lose(report, lab, vm, active, standby, what):
    """The host is lost; the moment when the guest ran again, and what became of its clock."""
    client = lab.start_client(vm, patience=60)
    client.wait_acked(20)
    before = Reading(lab, vm)
    off = lab.poweroff(active)
    running = lab.events[standby].wait("RUNNING", 15, off)["time"]
    client.wait_answer_after(running)
    client.wait_acked(20)
    told = lab.events[standby].wait("GUEST_TIME", 40, running)
    after = Reading(lab, vm)
    passed, lived = after.at - before.at, after.mono - before.mono
    outage = passed - lived
    print("# %s: outage %.3f s; late %+.3f s before, %+.3f s after (+-%.3f); told %.3f s after RUNNING: %s" % (
        what, outage, before.behind, after.behind, after.error, (told["time"] - running) / 1e9, told["data"]), flush=True)
    report.check(after.back == 0 and 0 < lived <= passed + after.error + before.error,
                 "the monotonic clock does not go back, nor ahead of the time" + what, (passed, lived, after.back))
    report.client(client.stop(), what)  # whose CHECK is about the clock, too
    time.sleep(1)
    later = Reading(lab, vm)
    passed, lived = later.at - after.at, later.mono - after.mono
    error = 0.1 + after.error + later.error
    report.check(passed - error < lived < passed + error, "it goes on at its pace" + what, (passed, lived, error))
    return told["data"], later, outage


def main(report, cluster):
    lab, vm = cluster.up(protect=False, dirty=1_000_000, agent=SOCKET)
    with connect(lab, "hostA").sync() as agent:  # a guest comes from its boot with a fraction of a second of error
        agent.ask("guest-set-time", time=time.time_ns())
    rows = [c["name"] for c in lab.request("hostA", "check")["checks"]]
    report.check("VM vm1, guest's clock" in rows, "mcctl check has a word on the guest's clock", rows)
    lab.protect(vm, "hostA", "hostB")

    start = time.monotonic_ns()
    with connect(lab, "hostA").sync() as agent:
        agent.ask("guest-set-time", time=time.time_ns() - 5_000_000_000)
    told = lab.events["hostA"].wait("GUEST_TIME", 30, start)["data"]
    reading = Reading(lab, vm)
    report.check(told["set"] and 4e3 < told["behind_ms"] < 6e3 and abs(reading.behind) < 2 * BOUND + reading.error,
                 "the clock of a protected guest that gets late is set", (told, reading.behind))

    told, reading, outage = lose(report, lab, vm, "hostA", "hostB", " (agent)")
    report.check(told["set"] and "error" not in told and told["behind_ms"] > 0.8e3 * outage - 50,
                 "the agent sets the clock after a takeover", (told, outage))
    report.check(abs(reading.behind) < BOUND + reading.error, "the guest's clock is right within %.0f ms" % (BOUND * 1e3),
                 (reading.behind, reading.error))

    lab.boot("hostA")
    lab.wait_state("hostB", vm.name, "protected", 60)
    with connect(lab, "hostA"):  # the waiting QEMU has room for one client: mcd's connection will not be served
        told, reading, outage = lose(report, lab, vm, "hostB", "hostA", " (agent occupied)")
    report.check(not told["set"] and "does not answer" in told["error"], "an agent that does not answer is given up", told)
    report.check(lab.status("hostA", vm.name)["state"] == "unprotected", "and nothing comes of it")


if __name__ == "__main__":
    run(main)
