# SPDX-License-Identifier: GPL-2.0-or-later
# check: plain
"""scripts/demo as a user runs it: every fault, its exit status, its last line, and what it leaves."""
import json
import os
import subprocess

from mclab.scenario import run
from mclab.sweep import leftovers

DEMO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../scripts/demo")
KEYS = {"acked", "lost", "reconnects", "stall_ms", "poweroff_to_running_ms"}


def demo(*args):
    return subprocess.run([DEMO, "--json", "--seconds", "8", *args], capture_output=True, text=True, timeout=600)


def main(report, cluster):
    for args in (["--fault", "primary"], ["--fault", "standby"], ["--fault", "link"],
                 ["--fault", "primary", "--delay", "20ms", "--dirty", "5MB"],
                 ["--fault", "primary", "--disk"], ["--fault", "standby", "--disk"]):
        r = demo(*args)
        what = "demo " + " ".join(args)
        if not report.check(r.returncode == 0, "%s succeeds" % what, r.stderr[-2000:]):
            continue
        result = json.loads(r.stdout.splitlines()[-1])
        report.check(set(result) == KEYS and result["acked"] > 0 and not result["lost"] and not result["reconnects"]
                     and result["poweroff_to_running_ms"] > 0, "%s ends with its line of JSON" % what, result)
        print("# %s: %s" % (what, result), flush=True)
    report.check(not leftovers(), "nothing is left behind", leftovers())


if __name__ == "__main__":
    run(main)
