"""Real programs of the product in a network of their own, on a folder of manifests. For tests of both together."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

DEADLINE = 30.0


class Programs:
    """Started by `start`, ended with `stack`."""

    def __init__(self, network: str, stack: ExitStack) -> None:
        self._inside = ["ip", "netns", "exec", network]
        self._stack = stack

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        program = str(Path(sys.executable).with_name("deltaplane"))
        process = subprocess.Popen([*self._inside, program, *words, "--insecure"], stderr=subprocess.DEVNULL)
        self._stack.callback(process.wait)
        self._stack.callback(process.terminate)
        return process

    def run(self, *words: str) -> str:
        return subprocess.run([*self._inside, *words], capture_output=True, text=True, check=False, timeout=30).stdout


@contextmanager
def network(name: str) -> Iterator[tuple[str, ExitStack]]:
    """A network with loopback alone; what is started in it ends first."""
    if os.geteuid():
        pytest.skip("needs root")
    made = f"dp-{name}-{os.getpid()}"
    with ExitStack() as stack:
        subprocess.run(["ip", "netns", "add", made], check=True)
        stack.callback(subprocess.run, ["ip", "netns", "delete", made], check=True)
        subprocess.run(["ip", "-n", made, "link", "set", "lo", "up"], check=True)
        yield made, stack


def eventually(what: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not what():
        assert time.monotonic() < end, what
        time.sleep(0.2)
