# SPDX-License-Identifier: GPL-2.0-or-later
# check: plain
"""From a host's power-off to its guest running on the standby: under 200 ms in the median, with
keep-alives of 20 ms x 5."""
import json
import os
import subprocess

from mclab.scenario import run

BENCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../bench/failover")


def main(report, cluster):
    r = subprocess.run([BENCH, "--build", cluster.build, "--rounds", os.environ.get("MCD_RUNS", "10"), "--json"],
                       capture_output=True, text=True, timeout=600)
    if not report.check(r.returncode == 0, "bench/failover runs", r.stderr[-1000:]):
        return
    result = json.loads(r.stdout.splitlines()[-1])
    print("# %s" % result, flush=True)
    report.check(set(result) == {"median_ms", "p99_ms", "min_ms", "max_ms"}, "it ends with its line of JSON", result)
    report.check(0 < result["min_ms"] <= result["median_ms"] < 200, "the median takeover takes under 200 ms", result)


if __name__ == "__main__":
    run(main)
