"""A timer as a descriptor (timerfd_create(2)), by libc: Python has it from 3.13 on."""

from __future__ import annotations

import ctypes
import os
from struct import pack

_CLOCK_MONOTONIC = 1
_libc = ctypes.CDLL(None, use_errno=True)


class Timer:
    """Readable every `period` seconds. Raises OSError."""

    def __init__(self, period: float) -> None:
        self._descriptor = int(_libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC))
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        try:
            self.start(period)
        except OSError:
            self.close()
            raise

    def fileno(self) -> int:
        return self._descriptor

    def start(self, period: float) -> None:
        """From now on with this period."""
        whole, rest = int(period), int(period % 1 * 1e9)
        times = pack("@qqqq", whole, rest, whole, rest)  # struct itimerspec: the period, then the first time
        if _libc.timerfd_settime(self._descriptor, 0, times, None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def ticked(self) -> bool:
        """Whether a period has ended since the last call."""
        try:
            return bool(os.read(self._descriptor, 8))
        except BlockingIOError:
            return False

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
