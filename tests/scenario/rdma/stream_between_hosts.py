# SPDX-License-Identifier: GPL-2.0-or-later
# check: both builds
"""The checkpoint stream over RDMA between two lab hosts, whatever happens to its ends, and the disk stream's unit tests
by RDMA (tests/lab/rdma-hosts).  A guest with a disk by RDMA between two hosts: tests/lab/run --disk."""
import os
import subprocess
import sys

from mclab.scenario import TOP

LIMIT = 300  # seconds; a quiet machine needs 40


def main():
    build = os.path.abspath(os.environ.get("MCD_BUILD", os.path.join(TOP, "build")))
    plain = os.path.abspath(os.environ.get("MCD_PLAIN_BUILD", build))
    command = "%s/tests/lab/rdma-hosts %s %s" % (os.path.abspath(TOP), build, plain)
    if subprocess.call(["sh", "-c", "command -v qemu-system-x86_64 >/dev/null"]):
        print("skip - RDMA between lab hosts: there is no qemu-system-x86_64")
        return 77
    lab = subprocess.Popen([os.path.join(TOP, "scripts/lab"), "--load", "rdma", "--time", str(LIMIT), "--", command],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    good = bad = 0
    for line in lab.stdout:
        text = line.split("| ", 1)[1] if line.startswith("host") and "| " in line else line
        good += text.startswith("ok - ")
        bad += text.startswith("not ok - ")
        sys.stdout.write(text)
        sys.stdout.flush()
    status = lab.wait()
    if status or bad or good < 9:
        if not bad:
            print("not ok - RDMA between lab hosts: scripts/lab ended with status %d after %d tests" % (status, good))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
