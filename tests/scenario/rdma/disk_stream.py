# SPDX-License-Identifier: GPL-2.0-or-later
# check: alone
"""The disk stream over RDMA: its unit tests, which elsewhere have a socket, on a lab host that has an RDMA device
and talks to itself.  (A guest with a disk, and RDMA between two hosts: tests/lab/run --disk.)"""
import os

from mclab.lab import Lab
from mclab.proc import LabError
from mclab.scenario import run

TESTS = ("disklink", "mirror", "replica-refuse")


def main(report, cluster):
    lab = cluster.lab = Lab(cluster.build, mtu=4200)
    lab.__enter__()
    lab.add_hosts("hostA", kernel="6.12", load=["rdma"])
    host = lab.hosts["hostA"]
    for test in TESTS:
        program = lab.tool("tests/unit/diskmirror/test-diskmirror-" + test)
        try:
            host.run([program], timeout=200, env=dict(os.environ, MCD_TEST_RDMA=host.address))
            failed = ""
        except LabError as e:
            failed = str(e)[-1000:]
        report.check(not failed, "over RDMA the tests of %s pass" % test, failed)


if __name__ == "__main__":
    run(main)
