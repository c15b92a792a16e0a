"""A real agent process on a state folder that somebody has prepared, without a control plane: it stays and dials."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nodeagent.stream.events import Record
from nodeagent.stream.journal import Journal
from nodeagent.stream.journal_file import BAD, NAME
from tests.unit.nodeagent.test_recovery import forged

pytestmark = pytest.mark.kernel
DEADLINE = 30.0


def a_state(*messages: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        journal = Journal(folder, "n1")
        journal.keep(Record(messages, whole=True))
        journal.close()

    return write


def a_fifo(folder: Path) -> None:
    os.mkfifo(folder / NAME)


def zeros(folder: Path) -> None:
    a_state(*forged())(folder)
    os.truncate(folder / NAME, 3 << 30)


FOLDERS: dict[str, Callable[[Path], None]] = {
    "source range": a_state(*forged(ranges=["x"])),
    "protocol": a_state(*forged(protocol=0)),  # type: ignore[arg-type]
    "no whole state": a_state(*forged()[:2]),
    "FIFO": a_fifo,
    "zeros": zeros,
}


@contextmanager
def agent(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """In a network of its own, with a server that nobody is."""
    command = [
        "unshare", "--net", str(Path(sys.executable).with_name("deltaplane")), "agent", "--server=127.0.0.1:1",
        "--insecure", "--hostname-override=n1", "--proxy-mode=nftables", "--strict-mode", f"--state-dir={folder}",
        "--healthz-bind-address=", "--metrics-bind-address=",
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def lines_until(process: subprocess.Popen[str], word: str) -> list[str]:
    """What it said, up to a line with this word."""
    assert process.stderr is not None
    found: list[str] = []
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        line = process.stderr.readline()
        found.append(line)
        if not line or word in line:
            break
    return found


@pytest.mark.parametrize("prepare", FOLDERS.values(), ids=FOLDERS)
def test_an_agent_starts_on_any_journal_and_dials(tmp_path: Path, prepare: Callable[[Path], None]) -> None:
    prepare(tmp_path)
    with agent(tmp_path) as process:
        said = lines_until(process, "not connected; retrying")
        assert "not connected; retrying" in said[-1], said
        assert process.poll() is None
    assert not any("Traceback" in line for line in said)
    assert (tmp_path / BAD).exists() == any("set aside" in line for line in said)
