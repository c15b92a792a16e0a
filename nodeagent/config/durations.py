"""Durations as Go writes them ("1h0m0s", "250ms", "0s"): what the configuration file and the flags are written in.

Grammar and rendering are those of Go's `time.ParseDuration` and `Duration.String`.
"""

from __future__ import annotations

import re
from fractions import Fraction

UNITS = {
    "ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
}  # fmt: skip
LIMIT = 2**63  # nanoseconds: Go keeps them in 64 bits

_TERM = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_WHOLE = re.compile(rf"[-+]?(?:(?:{_TERM.pattern})+|0)")


class Duration(int):
    """A number of nanoseconds that is written the way Go writes it."""

    @property
    def seconds(self) -> float:
        return int(self) / 10**9

    def __str__(self) -> str:
        return _render(int(self))

    def __repr__(self) -> str:
        return f"Duration({self})"


class LogDuration(Duration):
    """The one duration that a file may also give as a number of nanoseconds (`logging.flushFrequency`)."""


def of(*, hours: int = 0, minutes: int = 0, seconds: int = 0) -> Duration:
    """A duration in whole units."""
    return Duration((hours * 3600 + minutes * 60 + seconds) * 10**9)


def parse(text: str) -> Duration:
    """Reads "1h30m", "1.5s", "-2ms" or "0". Raises ValueError with the reason."""
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration such as 30s or 1h30m")
    total = sum(int(Fraction(number.rstrip(".")) * UNITS[unit]) for number, unit in _TERM.findall(text))
    if total >= LIMIT:
        raise ValueError(f"{text!r} is longer than 292 years")
    return Duration(-total if text.startswith("-") else total)


def _render(nanoseconds: int) -> str:
    if nanoseconds == 0:
        return "0s"
    sign, rest = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if rest < 10**9:
        unit = next(unit for unit in ("ms", "µs", "ns") if rest >= UNITS[unit])
        return f"{sign}{_decimal(rest, UNITS[unit])}{unit}"
    minutes, rest = divmod(rest, UNITS["m"])
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{sign}{head}{_decimal(rest, 10**9)}s"


def _decimal(value: int, unit: int) -> str:
    whole, part = divmod(value, unit)
    if not part:
        return str(whole)
    return f"{whole}.{str(part).zfill(len(str(unit)) - 1).rstrip('0')}"
