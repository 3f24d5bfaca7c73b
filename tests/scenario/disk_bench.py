# SPDX-License-Identifier: GPL-2.0-or-later
# check: plain
"""What mirroring costs a guest that writes: bench/disk says so, and a disk under load does not make
the pause of an epoch much longer."""
import json
import os
import subprocess

from mclab.scenario import run

BENCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../bench/disk")


def main(report, cluster):
    r = subprocess.run([BENCH, "--build", cluster.build, "--rounds", "2", "--seconds", "3", "--json"],
                       capture_output=True, text=True, timeout=300)
    if not report.check(r.returncode == 0, "bench/disk runs", r.stderr[-1000:]):
        return
    result = json.loads(r.stdout.splitlines()[-1])
    print("# %s" % result, flush=True)
    report.check(0.1 < result["fsync_ratio"] and 0.2 < result["write_ratio"],
                 "a protected guest writes at a fair part of the unprotected one's rate", result)
    report.check(0 < result["pause_ratio"] <= 1.5, "a disk under load does not make the pause much longer", result)


if __name__ == "__main__":
    run(main)
