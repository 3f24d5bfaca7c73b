# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs jobs side by side.  Most of them wait most of the time, so that more of them fit on a machine than it has cores:
each says how many it keeps busy on the average, and one more starts while the sum leaves room.  The longest go first,
so that no long one is left alone at the end; what only computes runs at a low priority in the gaps of the others.
"""
import glob
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field

CPU_GROUPS = "/sys/fs/cgroup/cpuacct"


@dataclass
class Job:
    name: str
    argv: list
    out: str                 # the file for what it prints
    seconds: float = 20      # about how long it takes
    cores: float = 0.6       # about how many it keeps busy meanwhile
    after: tuple = ()        # names of jobs that it needs; when one failed it is not run
    alone: bool = False      # nothing else meanwhile: it measures, or needs all there is
    background: bool = False # it only computes, at a low priority
    steady: bool = False     # no slow machine explains that it fails
    limit: float = 1800
    env: dict = field(default_factory=dict)
    # afterwards
    status: int = None
    took: float = 0
    used: float = None       # CPU seconds, where the kernel counts them

    def text(self):
        with open(self.out, encoding="utf-8", errors="replace") as f:
            return f.read()


class _Running:
    def __init__(self, job, number):
        self.job, self.began, self.told = job, time.monotonic(), 0
        self.group = os.path.join(CPU_GROUPS, "mcd-check-%d-%d" % (os.getpid(), number))
        try:
            os.mkdir(self.group)
        except OSError:
            self.group = None
        with open(job.out, "w", encoding="utf-8") as out:
            self.process = subprocess.Popen(
                job.argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=dict(os.environ, **job.env),
                start_new_session=True, preexec_fn=self._prepare)

    def _prepare(self):
        if self.job.background:
            os.nice(15)
        if self.group:
            with open(os.path.join(self.group, "cgroup.procs"), "w", encoding="ascii") as f:
                f.write(str(os.getpid()))

    def terminate(self):
        """In order, so that it removes what it has made."""
        if self.process.poll() is None:
            self.process.terminate()

    def kill(self):
        """And what it has left running."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    def over(self):
        """Whether it has ended; the time limit sees to that."""
        late = time.monotonic() - self.began - self.job.limit
        if late > 30:
            self.kill()
        elif late > 0 and not self.told:
            self.told = 1
            self.terminate()
        if self.process.poll() is None:
            return False
        self.kill()
        self.job.took = time.monotonic() - self.began
        self.job.status = 124 if self.told else self.process.returncode
        if self.group:
            with open(os.path.join(self.group, "cpuacct.usage"), encoding="ascii") as f:
                self.job.used = int(f.read()) / 1e9
        return True


def sweep():
    """Removes the CPU groups of this process and of those that are gone; one whose last process is about to end stays for
    the next time."""
    for path in glob.glob(CPU_GROUPS + "/mcd-check-*"):
        pid = int(path.split("-")[2])
        if pid == os.getpid() or not os.path.exists("/proc/%d" % pid):
            try:
                os.rmdir(path)
            except OSError:
                pass


class Schedule:
    """cores: how many may be kept busy; most: how many jobs at a time, those in the background apart."""

    def __init__(self, cores, most, ended):
        self.cores, self.most, self.ended = cores, most, ended
        self._running, self._status, self._count = [], {}, 0

    def _fits(self, job):
        if not self._running:
            return True
        if job.alone or any(r.job.alone for r in self._running):
            return False
        beside = [r.job for r in self._running if r.job.background == job.background]
        if job.background:
            return not beside
        return not beside or len(beside) < self.most and sum(j.cores for j in beside) + job.cores <= self.cores

    def run(self, jobs):
        """All of them; calls ended(job) after each.  What needs a job that failed keeps the status None."""
        # Those that need all of the machine come last: till then nothing has to wait for them.
        waiting = sorted(jobs, key=lambda j: (j.alone, -j.seconds))
        for job in waiting:
            self._status.setdefault(job.name, None)
        while waiting or self._running:
            self._start(waiting)
            for r in [r for r in self._running if r.over()]:
                self._running.remove(r)
                sweep()
                self._status[r.job.name] = r.job.status
                self.ended(r.job)
            for job in [j for j in waiting if any(self._failed(name, waiting) for name in j.after)]:
                waiting.remove(job)
                self.ended(job)
            time.sleep(0.05)

    def _failed(self, name, waiting):
        return bool(self._status.get(name)) or (
            self._status.get(name, 0) is None and name not in [j.name for j in waiting] + [r.job.name for r in self._running])

    def _start(self, waiting):
        for job in list(waiting):
            if all(self._status.get(name, 0) == 0 for name in job.after) and self._fits(job) and not (
                    job.alone and any(not j.alone for j in waiting)):
                waiting.remove(job)
                self._count += 1
                self._running.append(_Running(job, self._count))

    def stop(self):
        """Ends what runs, in order if it can be."""
        for r in self._running:
            r.terminate()
        deadline = time.monotonic() + 30
        while any(r.process.poll() is None for r in self._running) and time.monotonic() < deadline:
            time.sleep(0.05)
        for r in self._running:
            r.kill()
        sweep()
