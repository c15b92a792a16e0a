"""`python -m tests.faults`: runs all tests of docs/faults.md and writes that page; with JUnit files: from those.

All run in one go, so that every case has a result of the same run; where one has none, the page stays as it was.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.faults import document


def main(files: list[str]) -> int:
    if files:
        return written([*map(Path, files)])
    tests = sorted(
        {f"tests/{test}" for number in document.cases() for test in document.held(number)}
        | {f"tests/{document.AT_ONCE}"}
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "junit.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:randomly",
            "-o",
            "junit_family=xunit1",
            f"--junitxml={file}",
            *tests,
        ]
        code = subprocess.run(command, check=False).returncode
        return (written([file]) if file.exists() else 0) or code


def written(files: list[Path]) -> int:
    """Writes the page. Returns 1, and names the cases, where some have no result."""
    if lacking := document.without_result(files):
        sys.stderr.write(f"docs/faults.md stays as it was: no result of case {', '.join(map(str, lacking))}\n")
        return 1
    document.write(files)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
