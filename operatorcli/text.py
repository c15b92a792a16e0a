"""Numbers, times and names as people read them. Pure."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from math import inf

from deltaplane.wording import KINDS, count, key, seconds, since

__all__ = ["KINDS", "clock", "count", "duration", "key", "listed", "nanoseconds", "seconds", "since", "word"]

_UNITS = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs"), (1, "ns"))


def nanoseconds(number: int) -> str:
    """A short time, three digits: `12.3 ms`."""
    for size, unit in _UNITS:
        if number >= size:
            value = number / size
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
    return "0 s"


def clock(unix_nano: int) -> str:
    """A moment of today, in UTC: `12:03:04.123Z`."""
    return datetime.fromtimestamp(unix_nano / 1e9, UTC).strftime("%H:%M:%S.%f")[:-3] + "Z"


def listed(names: list[str], most: int = 5) -> str:
    """`a, b and 7 more`."""
    if len(names) <= most:
        return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
    return f"{', '.join(names[:most])} and {len(names) - most} more"


def word(enum_name: str, prefix: str) -> str:
    """The name of an enum's value in lower case, without what all of the enum have: `stalled`."""
    return enum_name.removeprefix(prefix).replace("_", " ").lower()


_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?")


def duration(given: str) -> float | None:
    """Seconds of `10s`, `1m30s`, `500ms`, `1.5h`, or of a plain number; None: it is none of these."""
    with suppress(ValueError):
        plain = float(given)
        return plain if 0 <= plain < inf else None
    found = _DURATION.fullmatch(given)
    if not given or not found:
        return None
    hours, minutes, whole, thousandths = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + whole + thousandths / 1000
