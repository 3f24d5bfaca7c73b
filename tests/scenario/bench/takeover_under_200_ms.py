# SPDX-License-Identifier: GPL-2.0-or-later
# check: plain
"""From a host's power-off to its guest running on the standby: under 200 ms in the median, with
keep-alives of 20 ms x 5."""
import os

from mclab.scenario import TOP, repetitions, run


def main(report, cluster):
    result = report.last_line("bench/failover runs", [os.path.join(TOP, "bench/failover"), "--build", cluster.build,
                                                      "--rounds", str(repetitions(10, 10, 20)), "--json"], 600)
    if not result:
        return
    report.check(set(result) == {"median_ms", "p99_ms", "min_ms", "max_ms"}, "it ends with its line of JSON", result)
    report.check(0 < result["min_ms"] <= result["median_ms"] < 200, "the median takeover takes under 200 ms", result)


if __name__ == "__main__":
    run(main)
