# SPDX-License-Identifier: GPL-2.0-or-later
# check: computes
"""The protocol's model holds, and each of its mutations is caught (tests/model, failover/README.md)."""
import os
import sys

from mclab.scenario import NIGHTLY, QUICK, TOP

RUN = os.path.join(TOP, "tests/model/run")

if __name__ == "__main__":
    # It prints a line for each variant, or why it is skipped, and ends with the status of a scenario.
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-B", RUN, "--tap"] + ["--quick"] * QUICK + ["--deep"] * NIGHTLY)
