# SPDX-License-Identifier: GPL-2.0-or-later
# check: plain, beside others
"""scripts/demo as a user runs it: every fault, its exit status, its last line, and what it leaves."""
import os

from mclab.scenario import TOP, run
from mclab.sweep import leftovers

KEYS = {"acked", "lost", "reconnects", "stall_ms", "poweroff_to_running_ms"}
FAULTS = (("primary",), ("standby",), ("link",), ("primary", "--delay", "20ms", "--dirty", "5MB"),
          ("primary", "--disk"), ("standby", "--disk"))


def main(report, cluster):
    for fault in FAULTS:
        what = "demo --fault " + " ".join(fault)
        result = report.last_line("%s succeeds" % what, [os.path.join(TOP, "scripts/demo"), "--json", "--seconds", "8",
                                                         "--fault", *fault], 600)
        if result:
            report.check(set(result) == KEYS and result["acked"] > 0 and not result["lost"] and not result["reconnects"]
                         and result["poweroff_to_running_ms"] > 0, "%s ends with its line of JSON" % what, result)
    report.check(not leftovers(), "nothing is left behind", leftovers())


if __name__ == "__main__":
    run(main)
