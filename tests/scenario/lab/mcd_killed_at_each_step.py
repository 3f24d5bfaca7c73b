# SPDX-License-Identifier: GPL-2.0-or-later
# check: nightly, plain
"""tests/lab/kill-steps, on both kernels: mcd is killed at each step of an epoch, with the plug; the one that follows adopts."""
import os
import subprocess
import sys

from mclab.scenario import TOP

if __name__ == "__main__":
    status = 0
    for kernel in ("6.12", "6.1"):
        # It prints the lines of a scenario, but what makes it give up.
        r = subprocess.run([os.path.join(TOP, "tests/lab/kill-steps"), "--kernel", kernel, "--build", os.environ["MCD_BUILD"]],
                           stderr=subprocess.PIPE, text=True, check=False)
        if r.returncode not in (0, 1):
            print("not ok - mcd is killed at each step of an epoch, on Linux %s: %s" % (kernel, r.stderr[-1000:]), flush=True)
        status = status or r.returncode
    sys.exit(status)
