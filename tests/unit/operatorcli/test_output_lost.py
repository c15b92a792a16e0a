"""What cannot be written: neither a traceback, nor an exit code that says yes or no."""

from __future__ import annotations

import subprocess
import sys

from operatorcli.exits import Exit

COMMAND = f"{sys.executable} -c 'import sys; from deltaplane.cli import main; sys.exit(main())'"


def ended(rest: str) -> tuple[int, str]:
    found = subprocess.run(["/bin/sh", "-c", f"{COMMAND} {rest}"], capture_output=True, text=True, check=False)
    return found.returncode, found.stderr


def test_output_that_cannot_be_written_is_told_and_is_no_answer() -> None:
    code, said = ended("wait -h >/dev/full")
    assert (code, said.splitlines()[0]) == (Exit.FAILED, "deltaplane: No space left on device")
    assert "Traceback" not in said


def test_a_closed_output_changes_no_exit_code() -> None:
    assert ended("wait -h >&-") == (Exit.YES, "")
    code, _ = ended("wait svc/ --server=127.0.0.1:1 --insecure >&- 2>&-")
    assert code == Exit.USAGE
