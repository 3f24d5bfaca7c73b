# SPDX-License-Identifier: GPL-2.0-or-later
"""The plug backend, on lab hosts whose kernels have it: its unit tests, and that no output of an epoch that is
not acknowledged is seen on the network, whenever the process that holds it is killed."""
import os
import re

from mclab.lab import Lab
from mclab.scenario import QUICK, run

KERNELS = ("6.12",) if QUICK else ("6.12", "6.1")
PROGRAMS = ("test-netbuf-plug", "test-netbuf-commit plug")
PATIENCE = 200


def main(report, cluster):
    tests = os.path.join(os.path.abspath(cluster.build), "tests/unit/netbuf")
    script = "cd %s; for t in %s; do ./$t 2>&1; echo $t: status $?; done"
    script %= (tests, " ".join("'%s'" % p for p in PROGRAMS))
    with Lab(cluster.build) as lab:
        names = ["host" + chr(ord("A") + i) for i in range(len(KERNELS))]
        for name, kernel in zip(names, KERNELS):
            lab.add_hosts(name, kernel=kernel, memory=512, load=["plug"])
        running = [lab.hosts[name].start(["sh", "-c", script], None, None) for name in names]
        for name, kernel, process in zip(names, KERNELS, running):
            out = lab.hosts[name].finish(process, PATIENCE, True)
            for program in PROGRAMS:
                said = out[:out.find(program + ": status")]
                out = out[len(said):]
                status = int(re.match(r"%s: status (\d+)\s*" % program, out).group(1))
                passed = said.count("[       OK ]")
                report.check(status == 0 and passed > 1, "Linux %s: %s" % (kernel, program), said[-2000:])
                print("# %d tests" % passed, flush=True)


if __name__ == "__main__":
    run(main)
