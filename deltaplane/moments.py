"""The wall clock, as messages have it: Unix nanoseconds within their signed 64 bits.

After 2262-04-11 it stands still there, and nothing but the times that are shown depends on it. Used by both programs.
"""

from __future__ import annotations

import time

MOST = (1 << 63) - 1  # 2262-04-11T23:47:16Z


def unix_nano() -> int:
    """Now."""
    return min(time.time_ns(), MOST)  # noqa: TID251 - here alone


def after(moment: int, seconds: float) -> int:
    """So many seconds, of at least 0, after a moment in Unix nanoseconds."""
    return min(moment + int(max(0.0, seconds) * 1e9), MOST)
