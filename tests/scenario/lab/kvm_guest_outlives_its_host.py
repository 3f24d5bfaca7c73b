# SPDX-License-Identifier: GPL-2.0-or-later
# check: plain, beside others
"""tests/lab/run: a nested KVM guest outlives its QEMU and its host, on hosts with kernels of their own."""
import os

from mclab.scenario import NIGHTLY, TOP, run

# kvm_guest_by_soft_dirty tells that of Linux 6.1 with TCP.
STORY = ("6.12", "rdma", "plug", "--disk", "--pin-all")
# Every kernel with every way of the stream and of holding output.
ALL = (STORY,) + tuple((k, t, n) for k in ("6.12", "6.1") for t in ("rdma", "tcp") for n in ("plug", "relay"))


def story(report, build, kernel, transport, netbuf, *more):
    what = "Linux %s, %s, %s" % (kernel, transport, " ".join((netbuf, *more)))
    result = report.last_line(
        "the guest outlives its QEMU and its host (%s)" % what,
        [os.path.join(TOP, "tests/lab/run"), "--build", build, "--kernel", kernel, "--transport", transport,
         "--netbuf", netbuf, "--json", *more], 600)
    if result:
        report.check(result["acked"] and not result["lost"] and not result["reconnects"] and len(result["acts"]) == 2,
                     "the client keeps its connection and every acknowledged request (%s)" % what, result)


def main(report, cluster):
    for words in ALL if NIGHTLY else (STORY,):
        story(report, cluster.build, *words)


if __name__ == "__main__":
    run(main)
