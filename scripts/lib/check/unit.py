# SPDX-License-Identifier: GPL-2.0-or-later
"""unit BUILD PROCESSES WHICH PATTERN - runs those of meson's tests whose name matches, all or those that meson would run
beside others ("beside") or not ("alone": they take long, but only one core); prints "ok - NAME", "not ok - NAME" or "skip - NAME: why",
and "# safety" after a sanitizer's word."""
import json
import os
import re
import subprocess
import sys

WORDS = re.compile(r"^(not ok|# .*failed|\[  FAILED)|ERROR:|runtime error:|^ *\d+/")


def names(build, which):
    out = subprocess.run(["meson", "introspect", "--tests", build], text=True, stdout=subprocess.PIPE, check=True).stdout
    return [t["name"] for t in json.loads(out) if which == "all" or t["is_parallel"] == (which == "beside")]


def kernel(build):
    """Debian's cloud kernel, where this machine's lacks what is to be tested (soft-dirty bits)."""
    said = subprocess.run(["tests/tools/mkinitramfs", os.path.join(build, "tests/tools/ftguest")], text=True,
                          stdout=subprocess.PIPE, check=False).stdout
    return next((line[len("KERNEL="):] for line in said.splitlines() if line.startswith("KERNEL=")), "")


def reason(test):
    """The line in which the test says why it is skipped: the one that mentions it, else its last."""
    lines = [line.strip() for key in ("stdout", "stderr") for line in test.get(key, "").splitlines() if line.strip()]
    told = [line for line in lines if "skip" in line.lower()]
    return (told or lines or ["no reason given"])[-1]


def main():
    build, processes, which, pattern = sys.argv[1:]
    wanted = [name for name in names(build, which) if re.search(pattern, name)]
    if not wanted:
        return 0
    log = os.path.join(build, "meson-logs/%s.json" % which)
    if os.path.exists(log):
        os.unlink(log)
    os.environ.setdefault("MCD_TEST_KERNEL", kernel(build))
    with subprocess.Popen(["meson", "test", "-C", build, "--no-rebuild", "--print-errorlogs", "--timeout-multiplier", "3",
                           "--num-processes", processes, "--logbase", which, *wanted],
                          text=True, errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as p:
        for line in p.stdout:
            if WORDS.search(line) and " OK " not in line:
                print("# " + line, end="")
    ran = 0
    with open(log, encoding="utf-8") as f:
        for test in map(json.loads, f):
            name, result = test["name"].split(" / ")[-1], test["result"]
            ran += 1
            print({"OK": "ok - %s", "SKIP": "skip - %s: " + reason(test).replace("%", "%%")}.get(
                result, "not ok - %%s (%s)" % result) % name)
            said = test.get("stdout", "") + test.get("stderr", "")
            if result not in ("OK", "SKIP") and ("Sanitizer" in said or "runtime error:" in said):
                print("# safety")
    return 0 if ran else 1


if __name__ == "__main__":
    sys.exit(main())
