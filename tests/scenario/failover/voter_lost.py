# SPDX-License-Identifier: GPL-2.0-or-later
"""The third host, which has no copy, dies: nothing happens to the VM.  Two of three are a majority,
so what needs a vote goes on, too: a planned move, and after the third is back an unplanned one."""
import time

from mclab.proc import wait_for
from mclab.scenario import run


def undisturbed(report, lab, client, since, what):
    epoch = lab.status("hostA")["epoch"]
    time.sleep(2)
    changed = [e["data"] for h in ("hostA", "hostB") for e in [lab.events[h].find("STATE_CHANGED", since)] if e]
    status = lab.status("hostA")
    report.check(not changed and status["state"] == "protected" and not status.get("alarm"),
                 "the VM stays protected" + what, (changed, status))
    wait_for(lambda: lab.status("hostA")["epoch"] > epoch + 5, 30, "epochs go on")
    client.wait_acked(5)
    report.check(True, "epochs and answers go on" + what)


def main(report, cluster):
    lab, vm = cluster.up(dirty=2_000_000)
    watch = lab.watch(vm)
    client = lab.start_client(vm)
    client.wait_acked(10)
    off = lab.poweroff("hostC")
    lab.events["hostA"].wait("KEEPALIVE_LOST", 10, off, peer="hostC")
    undisturbed(report, lab, client, off, " without the third host")
    voters = lab.mcctl("hostA", "status")["voters"]
    report.check(voters == {"connected": 2, "total": 3}, "status shows that a voter is missing", voters)

    lab.mcctl("hostA", "failover", "vm1")
    lab.wait_state("hostB", "vm1", "protected", 60)
    report.check(True, "two of three are a majority: a planned move, and protection again")
    client.wait_acked(10)

    lab.boot("hostC")
    lab.wait_voters("hostB", 3)
    off = lab.poweroff("hostB")
    running = lab.events["hostA"].wait("RUNNING", 15, off)
    client.wait_answer_after(running["time"])
    client.wait_acked(10)
    summary = client.stop()
    report.client(summary)
    seen = watch.stop()
    mac = seen["macs"][0]
    # A to B and back to A is what we asked for: more moves, or frames in between, are not.
    report.check(not seen["missed"] and len(mac["moves"]) == 2, "the VM is seen to move only when it does", mac)


if __name__ == "__main__":
    run(main)
