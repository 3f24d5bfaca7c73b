# SPDX-License-Identifier: GPL-2.0-or-later
"""What the demo prints: steps, one live line, the timeline, the barometer."""
import sys
import threading
import time


class Screen:
    """Writes to one stream; the live line, on a terminal only, gives way to every other line."""

    def __init__(self, stream):
        self.stream, self.start = stream, time.monotonic()
        self._lock, self._live = threading.Lock(), ""
        self.vm_state, self._tty = "", stream.isatty()

    def line(self, text=""):
        with self._lock:
            self._clear()
            self.stream.write(text + "\n")
            self.stream.flush()

    def step(self, text):
        self.line("%6.1f s  %s" % (time.monotonic() - self.start, text))

    def _clear(self):
        if self._live:
            self.stream.write("\r" + " " * len(self._live) + "\r")
            self._live = ""

    def live(self, report):
        """The client's report as the live line."""
        if not self._tty:
            return
        text = "          client: %d requests   p50 %.1f ms   p99 %.1f ms   longest silence %.0f ms   %s   vm1: %s" % (
            report["acked"], report["p50_ms"], report["p99_ms"], report["stall_ms"], report["state"], self.vm_state)
        with self._lock:
            self._clear()
            self._live = text[:118]
            self.stream.write("\r" + self._live)
            self.stream.flush()

    def end_live(self):
        with self._lock:
            self._clear()
            self.stream.flush()


def timeline(screen, off, rows):
    """Milliseconds since the fault; what never happened has a dash."""
    for what, at in rows:
        screen.line("  %-22s %s" % (what, "%+9.1f ms" % ((at - off) / 1e6) if at else "        -"))


def barometer(screen, v):
    """Where the time of an epoch goes: the VM's part of `mcctl status` while it was protected."""
    pause, dirty, buf = v.get("pause", {}), v.get("dirty", {}), v.get("buffer", {})
    screen.line("  epoch %s, every %.0f ms; lag %.0f ms; held now %d bytes in %d frames" % (
        v.get("epoch"), v.get("delay_ms", 0), v.get("lag_ms", 0), v.get("held_bytes", 0), v.get("held_frames", 0)))
    screen.line("  pause: median %.2f ms, p99 %.2f ms, longest %.2f ms, of %d epochs" % (
        pause.get("p50_ms", 0), pause.get("p99_ms", 0), pause.get("max_ms", 0), pause.get("count", 0)))
    steps = v.get("steps", {})
    names = [n for n in ("stop", "barrier", "save", "scan", "copy", "resume", "send", "ack", "release") if n in steps]
    screen.line("  step      " + "".join("%9s" % n for n in names))
    for key in ("p50_ms", "p99_ms"):
        screen.line("  %-10s" % key.replace("_ms", " ms") + "".join("%9.2f" % steps[n].get(key, 0) for n in names))
    screen.line("  dirty: median %.1f MB an epoch; checkpoint memory: %.1f of %.0f MiB, at most %.1f" % (
        dirty.get("p50_bytes", 0) / 1e6, buf.get("in_use", 0) / 2**20, buf.get("budget", 0) / 2**20,
        buf.get("peak", 0) / 2**20))


def stderr_or_stdout(json):
    """With --json stdout belongs to the program that reads it."""
    return sys.stderr if json else sys.stdout
