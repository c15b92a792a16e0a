"""The demo is the first thing a user runs: it shows nothing wrong, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tools.lab import netns

ROOT = Path(__file__).parents[2]


@pytest.fixture
def demo() -> subprocess.Popen[str]:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    command = [sys.executable, "-m", "deploy.demo"]
    both = subprocess.PIPE
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # where the tests are a shell's background job it is ignored
    try:
        return subprocess.Popen(command, cwd=ROOT, stdout=both, stderr=both, text=True, start_new_session=True)
    finally:
        signal.signal(signal.SIGINT, before)


def left_by(pid: int) -> list[str]:
    return [space.name for owner, space in netns.listed() if owner == pid]


def test_every_step_is_as_it_should_be(demo: subprocess.Popen[str]) -> None:
    shown, complaints = demo.communicate(timeout=100)
    assert (demo.returncode, complaints) == (0, ""), shown + complaints
    assert "✗" not in shown
    assert shown.count("── ") >= 6
    assert left_by(demo.pid) == []


def test_ctrl_c_in_the_middle_takes_everything_down(demo: subprocess.Popen[str]) -> None:
    assert demo.stdout is not None
    while "── 1." not in (line := demo.stdout.readline()):
        assert line, "the demo ended before its first step"
    demo.send_signal(signal.SIGINT)
    shown, complaints = demo.communicate(timeout=60)
    assert (demo.returncode, complaints) == (130, ""), shown + complaints
    assert left_by(demo.pid) == []
