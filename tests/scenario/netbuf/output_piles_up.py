# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that sends more than may be held: its epoch ends early, and while the standby does not acknowledge it
waits, but no longer than that.  Nothing is lost and it stays protected."""
import os
import signal
import socket
import struct
import threading
import time

from mclab.proc import in_netns, now, wait_for
from mclab.scenario import run

DELAY = 5  # s; the output does not wait for it
STANDSTILL = 1


class Flood(threading.Thread):
    """Some 4 MB/s of echo requests, which the guest's kernel answers."""

    def __init__(self, lab, vm):
        super().__init__(daemon=True)
        self._socket = in_netns(lab.client_ns, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
        self._socket.setblocking(False)
        self._to, self._over, self.answers = (vm.address, 0), threading.Event(), 0

    @staticmethod
    def _request(number):
        words = struct.pack("!HH", 0x6d63, number & 0xffff) + bytes(1400)
        total = 0x0800 + sum(struct.unpack("!%dH" % (len(words) // 2), words))
        total = (total & 0xffff) + (total >> 16)
        return struct.pack("!BBH", 8, 0, ~((total & 0xffff) + (total >> 16)) & 0xffff) + words

    def run(self):
        number = 0
        while not self._over.wait(0.01):
            for _ in range(30):
                number += 1
                try:
                    self._socket.sendto(self._request(number), self._to)
                except OSError:  # the queue is full, or the address not resolved yet
                    break
            while True:
                try:
                    self.answers += self._socket.recv(2048)[20] == 0
                except BlockingIOError:
                    break

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc):
        self._over.set()
        self.join()
        self._socket.close()


def epochs(lab, n):
    """How long so many more take."""
    began, first = time.monotonic(), lab.status("hostA")["epoch"]
    wait_for(lambda: lab.status("hostA")["epoch"] >= first + n, 120, "epochs go on")
    return time.monotonic() - began


def main(report, cluster):
    lab, vm = cluster.up(dirty=1_000_000, delay="%ds" % DELAY, hold_limit="1M",
                         lab_options={"keepalive": "200ms", "misses": 10})
    watch, since = lab.watch(vm), now()
    client = lab.start_client(vm)
    with Flood(lab, vm) as flood:
        epochs(lab, 1)
        took = epochs(lab, 5)
        report.check(took < 5 * DELAY * 0.6, "an epoch with much output ends early", "5 in %.1f s" % took)
        host = lab.hosts["hostB"]
        pid, times = host.inner(host.mcd), []
        for _ in range(3):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(STANDSTILL)
            for p in (host.mcd.pid, pid):  # nsenter stopped with its child
                os.kill(p, signal.SIGCONT)
            times.append(epochs(lab, 3))
        report.check(max(times) < DELAY * 0.7, "a guest that waited for an acknowledgement waits for nothing else",
                     "3 epochs in %s s" % times)
    print("# 5 epochs in %.1f s, after a standstill 3 in %s s, %d answers" % (
        took, ", ".join("%.1f" % t for t in times), flood.answers), flush=True)
    report.check(flood.answers > 1000, "the guest's answers come through", flood.answers)
    status = lab.status("hostA")
    changed = lab.events["hostA"].find("STATE_CHANGED", since)
    report.check(not changed and status["state"] == "protected" and not status["lost_frames"],
                 "it stays protected, and nothing of its output is lost", (changed, status))
    lab.mcctl("hostA", "set", "vm1", "delay=100ms")
    client.wait_acked(5)
    report.client(client.stop())
    report.watch(watch.stop(), vm, 0)


if __name__ == "__main__":
    run(main)
