# SPDX-License-Identifier: GPL-2.0-or-later
# check: plain
"""The pause of an epoch costs at most twice what the bare stop, save and resume of that guest cost."""
import json
import os
import subprocess

from mclab.scenario import run

BENCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../bench/pause")


def main(report, cluster):
    r = subprocess.run([BENCH, "--build", cluster.build, "--dirty", "5MB", "--delay", "100ms", "--seconds", "20",
                        "--json"], capture_output=True, text=True, timeout=300)
    if not report.check(r.returncode == 0, "bench/pause runs", r.stderr[-1000:]):
        return
    result = json.loads(r.stdout.splitlines()[-1])
    print("# %s" % result, flush=True)
    report.check(set(result) == {"floor_ms", "pause_ms", "pause_p99_ms", "ratio"}, "it ends with its line of JSON", result)
    report.check(0 < result["ratio"] <= 2, "the median pause is at most twice the floor", result)


if __name__ == "__main__":
    run(main)
