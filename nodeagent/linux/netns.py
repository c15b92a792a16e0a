"""The calling thread's network namespace (setns(2)), by libc: Python has it from 3.12 on."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_CURRENT = Path("/proc/thread-self/ns/net")
_libc = ctypes.CDLL(None, use_errno=True)


def opened() -> int:
    """A descriptor of the namespace in which the calling thread is."""
    return os.open(_CURRENT, os.O_RDONLY | os.O_CLOEXEC)


@contextmanager
def inside(descriptor: int) -> Iterator[None]:
    """The calling thread is in that namespace meanwhile. Raises OSError."""
    with _CURRENT.open("rb") as entered:
        if os.path.samestat(os.fstat(entered.fileno()), os.fstat(descriptor)):
            yield
            return
        _enter(descriptor)
        try:
            yield
        finally:
            _enter(entered.fileno())


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
