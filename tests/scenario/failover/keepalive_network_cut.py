# SPDX-License-Identifier: GPL-2.0-or-later
"""Keep-alives on a network of their own, and only that one fails: between primary and standby, at the
primary, everywhere; the hosts live and checkpoints would still pass.  Whoever asks, one wins by vote;
and the data link alone, while the keep-alives tell that both live."""
import time

from mclab.proc import now, wait_for
from mclab.scenario import HOSTS, run

RUNS_IT = ("unprotected", "syncing", "protected")


def all_heard(lab):
    for a in HOSTS:
        for b in HOSTS:
            if a != b:
                lab.wait_heard(a, b)


def where(lab):
    at = [h for h in ("hostA", "hostB") if lab.status(h).get("state") in RUNS_IT]
    return at[0] if len(at) == 1 else None


def fault(report, lab, vm, cut, heal, what, stays=True):
    """Returns where it runs afterwards, protected by the other host."""
    host = where(lab)
    watch = lab.watch(vm)
    client = lab.start_client(vm)
    client.wait_acked(10)
    at = now()
    cut(host, "hostB" if host == "hostA" else "hostA")
    running = wait_for(lambda: [e for h in HOSTS for e in [lab.events[h].find("RUNNING", at)] if e], 15,
                       "somebody wins")
    client.wait_answer_after(running[0]["time"])
    time.sleep(2)  # time for a second one
    ran = [h for h in HOSTS if lab.events[h].find("RUNNING", at)]
    winner = ran[0]
    report.check(len(ran) == 1 and where(lab) == winner, "one of them wins" + what, ran)
    if stays:
        report.check(winner == host, "and it is the primary" + what, winner)
    client.wait_acked(20)
    heal()
    all_heard(lab)
    status = lab.wait_state(winner, "vm1", "protected", 60)
    report.check(status["peer"] != winner, "it is protected again when the network is back" + what, status)
    client.wait_acked(10)
    report.client(client.stop(), what)
    report.watch(watch.stop(), vm, 0 if winner == host else 1, what)
    print("# %s: %s went on, %.0f ms after the cut" % (what.strip(), winner, (running[0]["time"] - at) / 1e6), flush=True)


def main(report, cluster):
    lab, vm = cluster.up(dirty=2_000_000, lab_options={"beat_network": True})
    sw = lab.switch
    all_heard(lab)
    fault(report, lab, vm, lambda p, s: sw.cut_pair(p, s, ("beat",)), sw.heal_pairs, " (between the two)")
    fault(report, lab, vm, lambda p, s: sw.isolate(p, ("beat",)), lambda: sw.rejoin("hostA", ("beat",)),
          " (at the primary)", stays=False)
    fault(report, lab, vm, lambda p, s: [sw.isolate(h, ("beat",)) for h in HOSTS],
          lambda: [sw.rejoin(h, ("beat",)) for h in HOSTS], " (everywhere)", stays=False)
    healthy = now()
    fault(report, lab, vm, lambda p, s: sw.cut_pair(p, s, ("cluster",)), sw.heal_pairs, " (the data link instead)")
    lost = [h for h in ("hostA", "hostB") if lab.events[h].find("KEEPALIVE_LOST", healthy)]
    report.check(not lost, "keep-alives go on while the other network is cut", lost)


if __name__ == "__main__":
    run(main)
