"""Kernel pipes that bytes pass through from one socket to the other without being copied into this process.

A direction of a connection holds one only while bytes are in it, so idle connections hold none, and a direction whose
receiver does not read holds one pipe's worth and no more. Called by `relay`.
"""

from __future__ import annotations

import os
from typing import NamedTuple

SIZE = 1 << 16  # bytes; a pipe's capacity unless another program changes it
KEPT = 64  # unused pipes held ready


class Pipe(NamedTuple):
    out: int
    into: int


class Pipes:
    """A stock of empty pipes."""

    def __init__(self) -> None:
        self._free: list[Pipe] = []
        self.lent = 0

    def take(self) -> Pipe:
        """An empty pipe. Raises OSError where the process may open no more files."""
        pipe = self._free.pop() if self._free else Pipe(*os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC))
        self.lent += 1
        return pipe

    def give(self, pipe: Pipe, *, empty: bool) -> None:
        """Takes a pipe back; one that still holds bytes is closed."""
        self.lent -= 1
        if empty and len(self._free) < KEPT:
            self._free.append(pipe)
        else:
            _close(pipe)

    def close(self) -> None:
        for pipe in self._free:
            _close(pipe)
        self._free.clear()


def _close(pipe: Pipe) -> None:
    os.close(pipe.out)
    os.close(pipe.into)
