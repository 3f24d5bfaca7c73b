# SPDX-License-Identifier: GPL-2.0-or-later
# check: plain
"""What mirroring costs a guest that writes: bench/disk says so, and a disk under load does not make
the pause of an epoch much longer."""
import os

from mclab.scenario import TOP, repetitions, run


def main(report, cluster):
    result = report.last_line("bench/disk runs", [os.path.join(TOP, "bench/disk"), "--build", cluster.build, "--rounds", "2",
                                                  "--seconds", str(repetitions(2, 2, 3)), "--json"], 300)
    if not result:
        return
    report.check(0.1 < result["fsync_ratio"] and 0.2 < result["write_ratio"],
                 "a protected guest writes at a fair part of the unprotected one's rate", result)
    report.check(0 < result["pause_ratio"] <= 1.5, "a disk under load does not make the pause much longer", result)


if __name__ == "__main__":
    run(main)
