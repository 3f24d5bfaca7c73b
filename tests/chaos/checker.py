# SPDX-License-Identifier: GPL-2.0-or-later
"""The verdict on a round, from outside: what the client logged, and what was seen at the switch.
Knows nothing of mcd but the bound that `mcctl check` prints."""
import re

RETRANSMIT = 1.5  # seconds, see silence_allowed()
RARP = "8035"


def bounds(checks):
    """As `mcctl check` states them, in seconds: from power-off to running at worst; and how long the
    guest waits at worst for a standby whose host lives but which acknowledges nothing."""
    found = []
    for pattern in (r"to running (\d+(?:\.\d+)?) ms", r"nothing (\d+(?:\.\d+)?) ms"):
        m = [m for m in (re.search(pattern, c.get("detail", "")) for c in checks) if m]
        found.append(float(m[0][1]) / 1000 if m else None)
    return found


def silence_allowed(outage):
    """How long a client may be without an answer when the service may be gone for `outage` seconds.

    TCP doubles its time-out each time: the retransmission that meets a running guest comes at most
    as long after the outage as the outage was long, plus the first time-out (about 0.3 s with an
    epoch's round trip); the guest's own answer may need one more.  The rest is for a machine on
    which the hosts share two processors.
    """
    return 2 * outage + RETRANSMIT


def silences(requests, shortest=0.3):
    """(seconds, from, to) of the longest silences between two answers, longest first."""
    found, last = [], None
    for r in requests:
        # Nothing is owed before it is asked for.
        since = r["sent"] if last is None else max(last, 0)
        if r["answered"] - since > shortest * 1e9:
            found.append(((r["answered"] - since) / 1e9, since, r["answered"]))
        last = r["answered"]
    return sorted(found, reverse=True)


def client_violations(summary, requests, expected_first):
    """What the client holds against the VM: [(kind, sentence)]."""
    bad = []
    if summary["lost"]:
        bad.append(("lost", "%d acknowledged requests are missing or changed: %s" % (summary["lost"], summary["error"])))
    if summary["bad"]:
        bad.append(("lost", "%d wrong answers: %s" % (summary["bad"], summary["error"])))
    if summary["reconnects"]:
        bad.append(("lost", "the connection broke: %s" % summary["error"]))
    if requests and expected_first and requests[0]["n"] != expected_first:
        bad.append(("lost", "the guest's log goes on with request %d after %d were acknowledged" % (
            requests[0]["n"], expected_first - 1)))
    if not bad and (not summary["complete"] or not summary["acked"]):
        bad.append(("late", "the service is not back: %s" % summary["error"]))
    return bad


def read_frames(path, mac):
    """[(ns, port)] of the VM's frames in the order in which the switch took them, RARP apart."""
    frames = []
    with open(path, encoding="ascii") as f:
        for line in f:
            word = line.split()
            if len(word) == 5 and word[2] == mac and word[3] != RARP:
                frames.append((int(word[0]), word[1]))
    return frames


def frame_violations(frames, settled):
    """No frame from a host that the VM has left.  It may come back to a host only after a moment of
    `settled`, when that host was seen to be its standby anew."""
    bad, left, where, moves = [], {}, None, []
    settled = sorted(settled)
    for ns, port in frames:
        while settled and settled[0] <= ns:
            settled.pop(0)
            left = {}
        if port == where:
            continue
        if where is not None:
            moves.append((ns, where, port))
            left[where] = ns
        if port in left:
            bad.append(("diverged", "%s sends %.1f ms after the VM was seen at %s" % (
                port, (ns - left[port]) / 1e6, where)))
        where = port
    return bad[:3], moves
