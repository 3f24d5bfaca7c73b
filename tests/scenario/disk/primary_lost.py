# SPDX-License-Identifier: GPL-2.0-or-later
# check: quick
"""A guest whose requests are on its disk before it answers them; the primary's host is powered off at
a random moment, again and again, so that each host's copy is the one to go on from in turn.  After
each takeover the VM's disk is looked at from outside: the file system is clean, and
every acknowledged request of this and all former runs is there.

MCD_RUNS=8, MCD_SEED=number: how often, and the moments of an earlier run once more."""
from mclab.quiet import check_disk, look
from mclab.scenario import random_moments, repetitions, run
from mclab.turns import primary_lost, turns
from mclab.vm import Disk


def main(report, cluster):
    moments = random_moments()
    lab, vm = cluster.up(dirty=2_000_000, disk=Disk(megabytes=64))
    clients = []
    for active, standby, what in turns(report, lab, vm, repetitions(3, 8, 20)):
        clients.append(primary_lost(report, lab, vm, active, standby, moments.uniform(0.2, 1.2), what))
        check_disk(report, lab, look(lab, vm, standby), clients, what)
    if not report.failed:
        report.check(True, "after every takeover the survivor is protected again by itself")


if __name__ == "__main__":
    run(main)
