# SPDX-License-Identifier: GPL-2.0-or-later
"""A short chaos campaign, the same one each time; docs/reliability.md has the long ones.

MCD_RUNS=25, MCD_SEED=1: how many rounds, of which campaign."""
import json
import os
import subprocess

from mclab.scenario import QUICK, run

RUN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../chaos/run")
PROMISES = {"lost": "no acknowledged request is lost or changed",
            "diverged": "the VM never emits diverging histories from two hosts",
            "late": "the service is back within the bound that mcctl check states",
            "not_reprotected": "the VM is protected again after every fault"}


def main(report, cluster):
    rounds, seed = os.environ.get("MCD_RUNS") or (8 if QUICK else 25), os.environ.get("MCD_SEED", "1")
    result = None
    with subprocess.Popen([RUN, "--build", cluster.build, "--rounds", str(rounds), "--seed", seed],
                          stdout=subprocess.PIPE, text=True) as p:
        try:
            for line in p.stdout:
                print("# " + line, end="", flush=True)
                if line.startswith("{"):
                    result = json.loads(line)
        except BaseException:
            p.terminate()  # it removes its lab
            raise
    if not report.check(p.returncode in (0, 1) and result is not None, "the campaign runs to its end",
                        "status %d" % p.returncode):
        return
    report.check(result["rounds"] > int(rounds) * 3 // 4, "the rounds count", result)
    for kind, promise in PROMISES.items():
        report.check(not result[kind], promise, result)
    report.check(p.returncode == 0, "nothing else went wrong", "status %d" % p.returncode)


if __name__ == "__main__":
    run(main)
