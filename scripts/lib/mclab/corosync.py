# SPDX-License-Identifier: GPL-2.0-or-later
"""A real corosync on each host, over the cluster network.

A client finds its corosync by network namespace (abstract sockets) and /dev/shm (ring buffers), and
every host of the lab has both for itself; what corosync writes goes below the host's own directory.
"""
import os
import shutil
import subprocess

from . import proc
from .proc import LabError

MISSING = "corosync is not installed"
TOKEN = 1000  # ms; less loses quorum by itself on a busy machine
DETECTION = 2.2 * TOKEN / 1000  # s from a power cut to the survivors' new membership

CONF = """totem {
  version: 2
  cluster_name: mclab
  transport: knet
  crypto_cipher: aes256
  crypto_hash: sha256
  keyfile: /run/lab/etc/corosync.authkey
  token: %d
  token_coefficient: 0
}
quorum {
  provider: corosync_votequorum
}
system {
  sched_rr: no
  state_dir: /run/lab/state/corosync
}
logging {
  to_stderr: no
  to_syslog: no
  to_logfile: yes
  logfile: /run/lab/log/corosync.log
  timestamp: hires
}
nodelist {
"""
NODE = "  node {\n    nodeid: %d\n    name: %s\n    ring0_addr: %s\n  }\n"


def available():
    return shutil.which("corosync") is not None


def cluster_with(cluster, **vm_options):
    """A scenario's cluster that follows corosync: (lab, its Corosync, vm1)."""
    made = []

    def prepare(lab):
        made.append(Corosync(lab))
        for h in lab.hosts:
            made[0].write_config(h)
        made[0].start()
        made[0].wait_quorate(len(lab.hosts))

    lab, vm = cluster.up(prepare=prepare, **vm_options)
    return lab, made[0], vm


class Corosync:
    def __init__(self, lab):
        if not available():
            raise LabError(MISSING)
        self.lab, self._processes = lab, {}
        key = os.urandom(256)
        conf = CONF % TOKEN + "".join(NODE % (h.number, h.name, h.address) for h in lab.hosts.values()) + "}\n"
        for h in lab.hosts.values():
            os.makedirs(h.path("state/corosync"), exist_ok=True)
            with open(h.path("etc/corosync.conf"), "w", encoding="ascii") as f:
                f.write(conf)
            with open(h.path("etc/corosync.authkey"), "wb") as f:
                f.write(key)
            os.chmod(h.path("etc/corosync.authkey"), 0o400)

    def start(self, *names):
        """On these hosts (default: all); in the foreground, so that it dies with its host or with us."""
        for name in names or self.lab.hosts:
            self._processes[name] = self.lab.hosts[name].spawn(
                ["corosync", "-f", "-c", "/run/lab/etc/corosync.conf"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for name in names or self.lab.hosts:  # mcd waits 5 s for it, which a busy machine may need to start it
            proc.wait_for(lambda: self.status(name)[0], 30, "corosync answers on " + name, 0.1)

    def kill(self, name):
        host = self.lab.hosts[name]
        host.kill9(host.inner(self._processes[name]))
        self._processes.pop(name).wait(10)

    def status(self, name):
        """(members, quorate) as corosync-quorumtool has it; (0, False) if it does not answer."""
        # Its exit status says whether it is quorate; what it prints is what we want.
        out = self.lab.hosts[name].run(["corosync-quorumtool", "-s"], check=False)
        found = dict(line.split(":", 1) for line in out.splitlines() if ":" in line)
        return int(found.get("Nodes", "0")), found.get("Quorate", "").strip() == "Yes"

    def wait_quorate(self, members, *names, timeout=20):
        for name in names or self.lab.hosts:
            proc.wait_for(lambda: self.status(name) == (members, True), timeout,
                          lambda: "%s is quorate with %d members: %s" % (name, members, self.status(name)), 0.1)

    def write_config(self, host, extra="cluster = corosync"):
        """An mcd.conf in which the name and all hosts are left to corosync."""
        self.lab.write_config(host, extra)
        path, keep = self.lab.hosts[host].path("etc/mcd.conf"), []
        with open(path, encoding="ascii") as f:
            hosts = False
            for line in f:
                if line.startswith("["):
                    hosts = line.startswith("[host ")
                if not hosts and not line.startswith("name ="):
                    keep.append(line)
        with open(path, "w", encoding="ascii") as f:
            f.writelines(keep)
