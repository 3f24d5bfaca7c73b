# SPDX-License-Identifier: GPL-2.0-or-later
"""A short chaos campaign, the same one each time; docs/reliability.md has the long ones.

MCD_RUNS=18, MCD_SEED=1: how many rounds, of which campaign."""
import json
import os
import subprocess

from mclab.scenario import TOP, repetitions, run

RUN = os.path.join(TOP, "tests/chaos/run")
PROMISES = {"lost": "no acknowledged request is lost or changed",
            "diverged": "the VM never emits diverging histories from two hosts",
            "late": "the service is back within the bound that mcctl check states",
            "not_reprotected": "the VM is protected again after every fault"}


def campaign(report, cluster, what, *args):
    result = None
    with subprocess.Popen([RUN, "--build", cluster.build, *args], stdout=subprocess.PIPE, text=True) as p:
        try:
            for line in p.stdout:
                print("# " + line, end="", flush=True)
                if line.startswith("{"):
                    result = json.loads(line)
        except BaseException:
            p.terminate()  # it removes its lab
            raise
    if not report.check(p.returncode in (0, 1) and result is not None, "the campaign runs to its end" + what,
                        "status %d" % p.returncode):
        return
    rounds = int(args[args.index("--rounds") + 1])
    report.check(result["rounds"] > rounds * 3 // 4, "the rounds count" + what, result)
    for kind, promise in PROMISES.items():
        report.check(not result[kind], promise + what, result, kind in ("lost", "diverged"))
    report.check(p.returncode == 0, "nothing else went wrong" + what, "status %d" % p.returncode)


def main(report, cluster):
    rounds, seed = repetitions(8, 18, 120), os.environ.get("MCD_SEED", "1")
    plain = (rounds + 1) // 2
    campaign(report, cluster, "", "--rounds", str(plain), "--seed", seed)
    campaign(report, cluster, " (with a disk)", "--rounds", str(rounds - plain), "--seed", seed,
             "--first", str(plain + 1), "--disk")


if __name__ == "__main__":
    run(main)
