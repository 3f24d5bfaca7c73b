# SPDX-License-Identifier: GPL-2.0-or-later
"""Lab hosts, VMs with kernels of their own: both kernels boot and reach each other and the hosts that
are namespaces; scripts/lab carries the exit status, keeps its time limit and leaves nothing behind."""
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from mclab.lab import Lab
from mclab.proc import LabError, processes
from mclab.scenario import TOP, run
from mclab.sweep import leftovers

LAB = os.path.join(TOP, "scripts/lab")
MARK = "MCD_LAB_TEST=%d-%d" % (os.getpid(), time.time_ns())


def one_lab(report):
    began = time.monotonic()
    with Lab(".", mtu=4200) as lab:
        lab.add_hosts("hostC")
        lab.add_hosts("hostA", kernel="6.12", memory=512)
        lab.add_hosts("hostB", kernel="6.1", memory=512)
        print("# two hosts have booted after %.1f s" % (time.monotonic() - began), flush=True)
        for name, series in (("hostA", "6.12."), ("hostB", "6.1.")):
            version = lab.hosts[name].run(["uname", "-r"]).strip()
            report.check(version.startswith(series) and "cloud" not in version,
                         "a host with a generic kernel %s boots" % series[:-1], version)
        reach(report, lab)
        # What only such a host has.
        for module in ("rdma", "plug", "kvm"):
            try:
                lab.hosts["hostA"].run(["lab-" + module], timeout=60)
                said = ""
            except LabError as e:
                said = str(e)
            report.check(not said, "its kernel has what the %s tests need" % module, said)
        a = lab.hosts["hostA"]
        b = lab.hosts["hostB"]
        drift = abs(a.here(int(float(a.run(["cut", "-d ", "-f1", "/proc/uptime"])) * 1e9)) - time.monotonic_ns())
        report.check(drift < 5e9 and a.clock.error < 1e9, "its clock is known", "%d ns off, +-%d" % (drift, a.clock.error))
        with open(b.path("log/endless"), "a", encoding="ascii") as out:
            endless = b.spawn(["sleep", "1000"], stdout=out)
        lab.poweroff("hostB")
        b.gone()
        report.check(endless.poll() == -signal.SIGKILL and not b.up, "a power cut ends all that ran there", endless.poll())
        b.boot()
        b.wait_booted()
        report.check(b.run(["cat", "/run/lab/log/endless"], check=False) == "" and b.pids("sleep") == [],
                     "it boots again, with its files")


def reach(report, lab):
    def ping(a, b):
        lab.hosts[a].run(["busybox", "ping", "-c", "2", "-s", "4100", lab.hosts[b].address])
        lab.hosts[a].run(["busybox", "ping", "-c", "2", lab.hosts[b].vm_address])
    missing = []
    for a, b in (("hostA", "hostB"), ("hostB", "hostC"), ("hostC", "hostA")):
        try:
            ping(a, b)
        except LabError as e:
            missing.append(str(e))
    report.check(not missing, "lab hosts and namespaces reach each other", missing)
    lab.switch.cut_pair("hostA", "hostB")
    try:
        ping("hostA", "hostC")
        lab.hosts["hostA"].run(["busybox", "ping", "-c", "1", "-W", "1", lab.hosts["hostB"].address])
        report.check(False, "a cut between two hosts is one")
    except LabError as e:
        report.check("100% packet loss" in str(e), "a cut between two hosts is one", e)
    lab.switch.heal_pairs()


def lab_command(*args, interrupt=None):
    name, value = MARK.split("=")
    p = subprocess.Popen([LAB, "--memory", "384", *args], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True, env=dict(os.environ, **{name: value}))
    if interrupt:
        time.sleep(5)  # while it boots, or in the middle of the command
        p.send_signal(interrupt)
    out, err = p.communicate(timeout=300)
    return p.returncode, out + err


def marked():
    """Processes that a scripts/lab of ours has started and not ended."""
    found = []
    for pid, name in processes():
        try:
            with open("/proc/%d/environ" % pid, encoding="latin1") as f:
                if MARK in f.read():
                    found.append((pid, name))
        except OSError:
            continue
    return found


def scripts_lab(report):
    status, out = lab_command("-c", "lab-barrier meet && echo met", "-c", "lab-barrier meet && exit 7")
    report.check(status == 7 and "hostA| met" in out, "the exit status is the first that is not 0", (status, out))
    with ThreadPoolExecutor(1) as pool:  # one host boots beside the others
        silent = pool.submit(lab_command, "-c", "echo b >/proc/sysrq-trigger; sleep 1000")
        time_and_interrupt(report)
        status, out = silent.result()
    report.check(status == 125, "a host that ends without reporting is told by status 125", (status, out))
    report.check(not leftovers() and not marked(), "nothing is left behind", (leftovers(), marked()))


def time_and_interrupt(report):
    began = time.monotonic()
    status, out = lab_command("--time", "6", "--hosts", "1", "--", "sleep", "1000")
    took = time.monotonic() - began
    report.check(status == 124 and took < 20, "a time limit is kept, and told by status 124", (status, took, out))
    status, out = lab_command("-c", "sleep 1000", interrupt=signal.SIGINT)
    report.check(status == 130, "it can be interrupted", (status, out))


def main(report, cluster):
    one_lab(report)
    scripts_lab(report)


if __name__ == "__main__":
    run(main)
