# SPDX-License-Identifier: GPL-2.0-or-later
"""The verdict on a round, from outside: what the client logged, and what was seen at the switch.
Of mcd it knows the bound that `mcctl check` prints, and from its events when a host was the standby anew."""
import json
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


def read_events(paths):
    """What the mcds told, in the order of their clock, which is the same on all hosts."""
    found = []
    for path in paths:
        try:
            with open(path, encoding="utf-8") as f:
                found += [json.loads(line) for line in f if line.endswith("}\n")]
        except OSError:
            continue  # that mcd has not been up yet
    return sorted(found, key=lambda e: e["time"])


def named_and_running(events):
    """([(ns, host)], [(ns, host)]): when a host was the VM's standby anew with a whole image, by its own
    word or by that of a primary that won this vote; and when a host ran the VM as its sole owner."""
    named, running, proposed = [], [], {}
    for e in events:
        host, data = e["host"], e["data"]
        if e["event"] == "VOTE_STARTED":
            proposed[host, data["generation"]] = data
        elif e["event"] == "VOTE_WON":
            p = proposed.get((host, data["generation"]), {})
            if p.get("standby") and p["owner"] == data["owner"] == host:
                named.append((e["time"], p["standby"]))
        elif e["event"] == "STATE_CHANGED" and (data["from"], data["to"]) == ("standby-syncing", "standby"):
            named.append((e["time"], host))
        elif e["event"] == "RUNNING":
            running.append((e["time"], host))
    return named, running


def frame_violations(frames, primary, named, running):
    """No frame from a host that the VM has left, unless the VM came back to it: it may once that host was
    named the standby anew since, and nobody has gone on without it after that.  primary: the host that runs
    the VM when the frames begin.  A host that took the VM over may be silent for a while: it has left the
    other one when it ran, not with its first frame."""
    bad, left, where, moves = [], {}, primary, []
    for ns, port in frames:
        if port == where:
            continue
        before = moves[-1][0] if moves else 0
        ran = [t for t, host in running if host == port and before < t <= ns]
        dropped = max([t for t, host in running if host != port and t <= ns], default=0)
        if port in left and not any(max(left[port], dropped) < t <= ns for t, host in named if host == port):
            bad.append(("diverged", "%s sends %.1f ms after the VM had left it for %s" % (
                port, (ns - left[port]) / 1e6, where)))
        left[where] = max(ran, default=ns)
        moves.append((ns, where, port))
        where = port
    return bad[:3], moves
