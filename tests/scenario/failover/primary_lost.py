# SPDX-License-Identifier: GPL-2.0-or-later
# check: quick
"""The primary's host is powered off at a random moment, again and again: each time the standby goes
on, the guest's memory is whole, and the next protection comes about by itself.

MCD_RUNS=8, MCD_SEED=number: how often, and the moments of an earlier run once more."""
from mclab.scenario import random_moments, repetitions, run
from mclab.turns import primary_lost, turns


def main(report, cluster):
    moments = random_moments()
    lab, vm = cluster.up(dirty=5_000_000)
    for active, standby, what in turns(report, lab, vm, repetitions(3, 8, 20)):
        primary_lost(report, lab, vm, active, standby, moments.uniform(0.2, 1.2), what)
    if not report.failed:
        report.check(True, "after every takeover the survivor is protected again by itself")


if __name__ == "__main__":
    run(main)
