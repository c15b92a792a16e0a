"""How long a server asks to wait: its Retry-After header, and the retryAfterSeconds of its Status. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

PATIENCE = 30.0  # seconds: the longest wait; a maintenance page may ask for hours


def patience(header: str, details: int | None, now: datetime) -> float:
    """The seconds a server asks for, from 0 to `PATIENCE`.

    `header` is Retry-After (RFC 9110, 10.2.3: seconds or a date). `details` is retryAfterSeconds of the Status; it
    counts if the header is unreadable. `now` has a time zone.
    """
    seconds = _seconds(header.strip(), now)
    if seconds is None:
        seconds = details or 0
    return float(min(max(seconds, 0), PATIENCE))


def _seconds(header: str, now: datetime) -> float | None:
    if header.isascii() and header.isdecimal():
        return float(header)
    try:
        date = parsedate_to_datetime(header)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return ((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds()
