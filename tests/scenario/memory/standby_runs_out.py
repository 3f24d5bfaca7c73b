# SPDX-License-Identifier: GPL-2.0-or-later
# check: plain, beside others
"""The standby runs out of memory or disk: when protection is asked for, in the middle with an error,
and in the middle with a killed process.  The error comes to the primary, which goes on unprotected
with an alarm; protection returns once there is room.

A sanitizer cannot live within a limit on addresses, so this is a test of the plain build."""
import os
import resource
import shutil

from mclab.proc import now, wait_for
from mclab.scenario import run

MIB = 1 << 20
V1 = "/sys/fs/cgroup/memory"


class Group:
    """A memory control group for what one host starts from now on; charges stay where they were made."""

    def __init__(self, lab, host):
        self.dir = os.path.join(V1 if os.path.isdir(V1) else "/sys/fs/cgroup", lab.hosts[host].ns + "-memory")
        self.limit_file = "memory.limit_in_bytes" if self.dir.startswith(V1) else "memory.max"
        self.usage_file = "memory.usage_in_bytes" if self.dir.startswith(V1) else "memory.current"
        os.makedirs(self.dir)

    def take(self, pid):
        with open(os.path.join(self.dir, "cgroup.procs"), "w", encoding="ascii") as f:
            f.write(str(pid))

    def limit(self, size):
        with open(os.path.join(self.dir, self.limit_file), "w", encoding="ascii") as f:
            f.write(str(size) if size else "-1" if self.dir.startswith(V1) else "max")

    def usage(self):
        with open(os.path.join(self.dir, self.usage_file), encoding="ascii") as f:
            return int(f.read())

    def close(self):
        try:
            os.rmdir(self.dir)
        except OSError:
            pass


def rate(lab, vm, mb):
    lab.ask(vm, "RATE %d" % (mb * 1000000))


def goes_on(report, lab, vm, client, at, what):
    running = lab.events["hostA"].wait("RUNNING", 30, at)
    rate(lab, vm, 1)
    client.wait_answer_after(running["time"])
    client.wait_acked(10)
    report.check(not lab.events["hostB"].find("RUNNING", at), "the standby never runs what it has a part of" + what)


def told(report, lab, word, what):
    """The alarm of an unprotected primary whose standby cannot hold it."""
    status = wait_for(lambda: [s for s in [lab.status("hostA")] if s.get("alarm")], 15, "an alarm on hostA")[0]
    report.check(status["state"] in ("unprotected", "syncing") and "hostB" in status["alarm"] and word in status["alarm"],
                 "it runs unprotected, and an alarm says why" + what, (status["state"], status["alarm"]))


def protected_again(report, lab, vm, client, what):
    lab.wait_state("hostA", "vm1", "protected", 90)
    report.check(not lab.status("hostA").get("alarm"), "with room again it is protected by itself, the alarm is over" + what,
                 lab.status("hostA"))
    client.wait_acked(10)


def at_protect(report, lab, vm, client, group):
    group.limit(300 * MIB)
    report.refused("a standby whose control group has no room", lambda: lab.mcctl("hostA", "protect", "vm1", "--peer", "hostB"),
                   "NotEnoughMemory")
    client.wait_acked(10)
    report.check(lab.status("hostA")["state"] == "unprotected", "the VM runs on")
    group.limit(0)
    lab.protect(vm, "hostA", "hostB")


def with_an_error(report, lab, vm, client):
    what = " (no memory)"
    h = lab.hosts["hostB"]
    pid = h.inner(h.mcd)
    with open("/proc/%d/statm" % pid, encoding="ascii") as f:
        size = int(f.read().split()[0]) * resource.getpagesize()
    old = resource.prlimit(pid, resource.RLIMIT_AS, (size + 2 * MIB, resource.RLIM_INFINITY))
    at = now()
    rate(lab, vm, 40)  # more slabs than ever
    goes_on(report, lab, vm, client, at, what)
    lost = lab.events["hostA"].find("PROTECTION_ENDED", at)
    report.check(lost and "hostB" in lost["data"]["reason"] and "memory" in lost["data"]["reason"],
                 "the standby's error comes to the primary" + what, lost)
    told(report, lab, "memory", what)
    resource.prlimit(pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, old[1]))
    protected_again(report, lab, vm, client, what)


def killed(report, lab, vm, client, group):
    what = " (killed)"
    h = lab.hosts["hostB"]
    at = now()
    group.limit(group.usage() + MIB)
    rate(lab, vm, 40)
    goes_on(report, lab, vm, client, at, what)
    wait_for(lambda: h.mcd.poll() is not None, 30, "the kernel ends mcd on hostB")
    report.check(lab.status("hostA")["state"] == "unprotected", "the primary runs unprotected" + what)
    group.limit(0)
    lab.start_mcd("hostB")
    group.take(h.inner(h.mcd))
    protected_again(report, lab, vm, client, what)


def no_disk(report, lab, vm, client):
    """hostB's votes and what does not fit into max-buffer are on a disk of 4 MB."""
    what = " (no disk)"
    h = lab.hosts["hostB"]
    lab.mcctl("hostA", "unprotect", "vm1")
    lab.stop_mcd("hostB")
    keep = h.path("state-before")
    shutil.copytree(h.path("state"), keep)
    h.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs", "/run/lab/state"])
    h.run(["cp", "-a", "/run/lab/state-before/.", "/run/lab/state/"])
    lab.start_mcd("hostB")
    lab.wait_heard("hostA", "hostB")
    lab.mcctl("hostA", "set", "vm1", "max-buffer=16MiB")
    lab.protect(vm, "hostA", "hostB")
    lab.mcctl("hostA", "set", "vm1", "max-buffer=256MiB")  # hostB's stays: the session began with it
    at = now()
    rate(lab, vm, 40)
    goes_on(report, lab, vm, client, at, what)
    told(report, lab, "no room", what)
    lab.mcctl("hostA", "set", "vm1", "max-buffer=256MiB")
    protected_again(report, lab, vm, client, what)


def main(report, cluster):
    lab, vm = cluster.up(protect=False, dirty=1_000_000)
    h = lab.hosts["hostB"]
    group = Group(lab, "hostB")
    try:
        group.take(h.inner(h.mcd))
        client = lab.start_client(vm, patience=60)
        client.wait_acked(10)
        watch = lab.watch(vm)
        at_protect(report, lab, vm, client, group)
        with_an_error(report, lab, vm, client)
        killed(report, lab, vm, client, group)
        no_disk(report, lab, vm, client)
        report.client(client.stop())
        report.watch(watch.stop(), vm, 0)
        off = lab.poweroff("hostA")
        running = lab.events["hostB"].wait("RUNNING", 15, off)
        client = lab.start_client(vm)
        client.wait_answer_after(running["time"])
        client.wait_acked(10)
        report.client(client.stop(), " (and over a takeover)")
    finally:
        group.limit(0)
        if h.up:
            lab.poweroff("hostB")
            h.gone()
        group.close()


if __name__ == "__main__":
    run(main)
