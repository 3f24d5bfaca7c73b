# SPDX-License-Identifier: GPL-2.0-or-later
"""What passed, failed or was skipped, and the last line."""

OK, NOT_OK, SKIP = "ok - ", "not ok - ", "skip - "


class Tally:
    def __init__(self):
        self.passed = 0
        self.failures, self.skipped, self.unsteady = [], [], []

    def ok(self):
        self.passed += 1

    def fail(self, what):
        self.failures.append(what)

    def skip(self, what):
        self.skipped.append(what)

    def lines(self, name, status, out):
        """Of a program whose lines "ok - ", "not ok - " and "skip - " count.  Its status counts when they say nothing of it."""
        counted = failed = 0
        for line in out.splitlines():
            if line.startswith(OK):
                self.ok()
            elif line.startswith(NOT_OK):
                self.fail("%s: %s" % (name, line[len(NOT_OK):]))
                failed += 1
            elif line.startswith(SKIP):
                self.skip("%s: %s" % (name, line[len(SKIP):]))
            else:
                continue
            counted += 1
        if status == 77 and not failed:
            if not counted:
                self.skip("%s: %s" % (name, last_line(out)))
        elif status and not failed:
            self.fail("%s: ended with status %d: %s" % (name, status, last_line(out)))
        elif not counted:
            self.ok()

    def finish(self):
        """Prints what there is to know; the exit status."""
        print()
        for head, lines in (("skipped", self.skipped), ("unsteady", self.unsteady), ("FAILED", self.failures)):
            for line in lines:
                print("%s: %s" % (head, line))
        failed = len(self.failures)
        if not self.passed and not failed:
            print("no test ran")
            failed = 1
        print("%d passed, %d failed%s" % (self.passed, failed, ", %d skipped" % len(self.skipped) if self.skipped else ""),
              flush=True)
        return 1 if failed else 0


def last_line(out):
    lines = [line for line in out.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def first_failure(out):
    return next((line for line in out.splitlines() if line.startswith(NOT_OK)), last_line(out))
