# SPDX-License-Identifier: GPL-2.0-or-later
# check: plain
"""tests/lab/run: a nested KVM guest outlives its QEMU and its host, on hosts with kernels of their own."""
import json
import os
import subprocess

from mclab.scenario import run

RUN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lab/run")
STORIES = (("6.12", "rdma", "plug", "--disk", "--pin-all"), ("6.1", "tcp", "plug"))


def story(report, build, kernel, transport, netbuf, *more):
    what = "Linux %s, %s, %s" % (kernel, transport, " ".join((netbuf, *more)))
    with subprocess.Popen([RUN, "--build", build, "--kernel", kernel, "--transport", transport, "--netbuf", netbuf, "--json",
                           *more],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as p:
        try:
            out, err = p.communicate(timeout=600)
        except BaseException:
            p.terminate()  # it removes its lab
            raise
    if not report.check(p.returncode == 0, "the guest outlives its QEMU and its host (%s)" % what, (out + err)[-2500:]):
        return
    result = json.loads(out.splitlines()[-1])
    report.check(result["acked"] and not result["lost"] and not result["reconnects"] and len(result["acts"]) == 2,
                 "the client keeps its connection and every acknowledged request (%s)" % what, result)
    print("# %s: %s" % (what, result), flush=True)


def main(report, cluster):
    for words in STORIES:
        story(report, cluster.build, *words)


if __name__ == "__main__":
    run(main)
