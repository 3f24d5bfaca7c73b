# SPDX-License-Identifier: GPL-2.0-or-later
"""One campaign in several clusters at once: each a process with a share of the rounds, and one sum."""
import json
import subprocess
import sys
import threading


def shares(first, rounds, n):
    """[(first, rounds)]: all of them, none twice, as equal as can be."""
    found = []
    for i in range(n):
        mine = rounds // n + (i < rounds % n)
        if mine:
            found.append((first, mine))
            first += mine
    return found


def total(sums):
    """One sum of several, key by key."""
    return {key: sum(s[key] for s in sums) for key in sums[0]} if sums else {}


def _read(number, process, sums, lock):
    for line in process.stdout:
        with lock:
            if line.startswith("{"):
                sums.append(json.loads(line))
            else:
                print("%d| %s" % (number, line), end="", flush=True)


def run(program, args, first, rounds, n):
    """args: those of each, without the rounds.  The worst of their statuses; its last line is the sum."""
    sums, lock, started = [], threading.Lock(), []
    try:
        for number, (at, mine) in enumerate(shares(first, rounds, n), 1):
            p = subprocess.Popen([sys.executable, "-B", program, *args, "--first", str(at), "--rounds", str(mine)],
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            t = threading.Thread(target=_read, args=(number, p, sums, lock))
            started.append((p, t))
            t.start()
        status = max(p.wait() for p, _ in started)
    except BaseException:
        for p, _ in started:
            p.terminate()  # each removes its lab
        for p, _ in started:
            p.wait()
        raise
    finally:
        for p, t in started:
            t.join()
            p.stdout.close()
    if len(sums) < len(started):
        status = max(status, 2)  # the sum is not of all rounds
    print(json.dumps(total(sums)), flush=True)
    return status
