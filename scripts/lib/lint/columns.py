# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines of C are at most 100 columns; clang-format leaves comments and strings to us.

In tests/ a string may be wider: there are command lines and answers as they are.
"""

import tree

COLUMNS = 100


def main() -> None:
    findings = []
    for path in tree.files():
        if not path.endswith((".c", ".h")):
            continue
        for n, line in enumerate(tree.read(path).splitlines(), 1):
            if path.startswith("tests/") and line.count('"') > 1:
                continue
            if len(line.expandtabs(8)) > COLUMNS:
                findings.append(f"{path}:{n}: {len(line.expandtabs(8))} columns, more than {COLUMNS}")
    tree.end(findings)


main()
