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


STUCK = """
import atexit, sys, threading
import operatorcli.main as operator
from deltaplane.cli import main
lock, held = threading.Lock(), threading.Event()

def hold():
    with lock:
        held.set()
        threading.Event().wait()

def verb(arguments, *_):
    atexit.register(lock.acquire)
    threading.Thread(target=hold, daemon=True).start()
    held.wait()
    print("said")
    return 1

operator.main = verb
sys.exit(main())
"""


def test_a_thread_that_holds_a_lock_does_not_keep_the_command_from_ending() -> None:
    """As gRPC's do after Ctrl-C, now and then: `top` did not end once in a dozen times."""
    found = subprocess.run(
        [sys.executable, "-c", STUCK, "top"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (found.returncode, found.stdout) == (1, "said\n")
