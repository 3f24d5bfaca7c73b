# SPDX-License-Identifier: GPL-2.0-or-later
# check: plain
"""The pause of an epoch costs at most twice what the bare stop, save and resume of that guest cost."""
import os

from mclab.scenario import TOP, repetitions, run


def main(report, cluster):
    result = report.last_line("bench/pause runs", [os.path.join(TOP, "bench/pause"), "--build", cluster.build, "--dirty", "5MB",
                                                   "--delay", "100ms", "--seconds", str(repetitions(12, 12, 20)),
                                                   "--json"], 300)
    if not result:
        return
    report.check(set(result) == {"floor_ms", "pause_ms", "pause_p99_ms", "ratio"}, "it ends with its line of JSON", result)
    report.check(0 < result["ratio"] <= 2, "the median pause is at most twice the floor", result)


if __name__ == "__main__":
    run(main)
