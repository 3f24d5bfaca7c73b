# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/lab: commands in lab hosts."""
import argparse
import glob
import os
import shlex
import shutil
import signal
import sys
import time

from .lab import Lab
from .proc import LabError
from .switch import NETWORKS
from .vmhost import KERNELS

TIME_LIMIT, NO_REPORT = 124, 125
TOLD = ("PATH", "HOME", "TERM", "LAB_HOST", "PWD", "OLDPWD")  # a host has its own

HELP = """\
The hosts are hostA, hostB, ...; 10.78.0.1, .2, ... on eth1, and 10.77.0.x on the bridge br0 (eth0), where a client in
a namespace is 10.77.0.100.  A command runs in the directory that lab was called in, with this environment and
LAB_HOST (its host's name), LAB_NUMBER (1, 2, ...), LAB_HOSTS, LAB_ADDRESS, LAB_ADDRESSES, LAB_KERNEL.  All files
of this machine are there; changes are lost, but not those below /run/lab (see --out) and in /run/mclab, which all hosts
share.  In PATH: lab-rdma, lab-plug, lab-kvm (load modules), lab-barrier NAME (wait for each other),
lab-ask poweroff HOST, lab-ask link HOST vm|cluster|beat up|down."""


class TimeUp(SystemExit):
    """Not an Exception: nothing on the way may take it for an error that can be survived."""


def arguments(argv):
    p = argparse.ArgumentParser(prog="lab", epilog=HELP, formatter_class=argparse.RawDescriptionHelpFormatter,
                                description="Runs commands in VMs with a kernel of their own.")
    p.add_argument("--kernel", choices=KERNELS, default="6.12")
    p.add_argument("--hosts", type=int, metavar="N", help="how many (2, or as many as there are -c)")
    p.add_argument("--memory", type=int, default=1024, metavar="MIB", help="of each (1024)")
    p.add_argument("--cpus", type=int, default=1, metavar="N", help="of each (1)")
    p.add_argument("--time", type=float, default=300, metavar="SECONDS", help="limit for all of it (300)")
    p.add_argument("--mtu", type=int, default=4200, help="of eth1 (4200: room for RDMA's 4096)")
    p.add_argument("--load", default="", metavar="WHAT", help="modules, some of rdma,plug,kvm")
    p.add_argument("--out", metavar="DIR", help="copy what the hosts leave in /run/lab/out to DIR/HOST")
    p.add_argument("--keep", action="store_true", help="keep the logs and say where")
    p.add_argument("-q", "--quiet", action="store_true", help="do not copy what the commands print")
    p.add_argument("-c", action="append", default=[], metavar="COMMAND", dest="commands", help="for one host each")
    p.add_argument("command", nargs="*", help="for all hosts")
    args = p.parse_args(argv)
    if bool(args.commands) == bool(args.command):
        p.error("give one command for all hosts, or a -c for each")
    args.hosts = args.hosts or len(args.commands) or 2
    if not 1 <= args.hosts <= 9 or (args.commands and len(args.commands) != args.hosts):
        p.error("from 1 to 9 hosts, and a -c for each of them")
    one = args.command[0] if len(args.command) == 1 else shlex.join(args.command)  # one word may be a shell command
    args.commands = args.commands or [one] * args.hosts
    return args


class Output:
    """What a command prints, copied line by line with its host's name in front."""

    def __init__(self, host):
        self.host, self.file = host, open(host.path("log/command"), "a+", encoding="utf-8", errors="replace")
        self._read, self._line = open(self.file.name, encoding="utf-8", errors="replace"), ""

    def copy(self, last=False):
        self._line += self._read.read()
        while "\n" in self._line or (last and self._line):
            line, _, self._line = self._line.partition("\n")
            print("%s| %s" % (self.host.name, line), flush=True)


class Run:
    def __init__(self, lab, args):
        self.lab, self.args, self.cut = lab, args, set()

    def boot(self):
        args, lab = self.args, self.lab
        lab.add_hosts(*["host" + chr(ord("A") + i) for i in range(args.hosts)], kernel=args.kernel, memory=args.memory,
                      cpus=args.cpus, load=[w for w in args.load.split(",") if w], boot_timeout=args.time)

    def commands(self):
        env = {k: v for k, v in os.environ.items() if k not in TOLD}
        outputs, processes = {}, {}
        for h, command in zip(self.lab.hosts.values(), self.args.commands):
            os.makedirs(h.path("out"))
            outputs[h.name] = Output(h)
        for h, command in zip(self.lab.hosts.values(), self.args.commands):
            processes[h.name] = h.spawn(["bash", "-c", command], stdout=outputs[h.name].file,
                                        stderr=outputs[h.name].file, env=env, cwd=os.getcwd())
        running = True
        while running:
            running = any([p.poll() is None for p in processes.values()])
            self.answer()
            if not self.args.quiet:
                for o in outputs.values():
                    o.copy(not running)
            if running:
                time.sleep(0.02)
        return [self.status(h, processes[h.name]) for h in self.lab.hosts.values()]

    def status(self, host, process):
        if host.up:
            return process.returncode if process.returncode >= 0 else 128 - process.returncode
        if host.name in self.cut:
            return 0
        print("lab: %s ended without reporting: %s" % (host.name, host.last_words()), file=sys.stderr)
        return NO_REPORT

    def answer(self):
        """lab-ask."""
        for ask in glob.glob(os.path.join(self.lab.dir, "ask-*")):
            if ask.endswith((".new", ".done")):
                continue
            with open(ask, encoding="utf-8") as f:
                words = f.read().split()
            os.unlink(ask)
            answer = ""
            try:
                self.obey(words)
            except (LabError, OSError) as e:
                answer = str(e)
            with open(ask + ".tmp.new", "w", encoding="utf-8") as f:
                f.write(answer + "\n")
            os.rename(ask + ".tmp.new", ask + ".done")

    def obey(self, words):
        host = self.lab.hosts.get(words[1]) if len(words) > 1 else None
        if words[:1] == ["poweroff"] and host and len(words) == 2:
            self.cut.add(host.name)
            host.poweroff()
        elif words[:1] == ["link"] and host and len(words) == 4 and words[2] in NETWORKS and words[3] in ("up", "down"):
            host.carrier(words[2], words[3] == "up")
        else:
            raise LabError("there is no '%s'" % " ".join(words))

    def collect(self):
        for h in self.lab.hosts.values():
            if self.args.out and os.path.isdir(h.path("out")):
                shutil.copytree(h.path("out"), os.path.join(self.args.out, h.name), dirs_exist_ok=True)


def time_up(_signum, _frame):
    raise TimeUp


def main(argv=None):
    args = arguments(argv)
    signal.signal(signal.SIGALRM, time_up)
    signal.setitimer(signal.ITIMER_REAL, args.time)
    try:
        with Lab(".", keep=args.keep, mtu=args.mtu) as lab:
            run = Run(lab, args)
            try:
                run.boot()
                statuses = run.commands()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)  # cleaning up is not to be cut short
                run.collect()
        return next((s for s in statuses if s), 0)
    except TimeUp:
        print("lab: the time limit of %g s" % args.time, file=sys.stderr)
        return TIME_LIMIT
    except LabError as e:
        print("lab: %s" % e, file=sys.stderr)
        return NO_REPORT if "ended while it booted" in str(e) else 2
    except KeyboardInterrupt:
        print("lab: interrupted, everything is removed", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
