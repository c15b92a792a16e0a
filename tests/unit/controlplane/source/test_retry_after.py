"""What a server asks for, in each of its forms."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from controlplane.source.retry_after import patience

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    "header, details, seconds",
    [
        ("7", None, 7.0),
        ("7", 9, 7.0),
        ("", 9, 9.0),
        ("soon", 9, 9.0),
        ("", None, 0.0),
        ("86400", None, 30.0),
        ("9" * 5000, None, 30.0),
        ("", 86400, 30.0),
        ("", 10**400, 30.0),
        ("", -5, 0.0),
        ("-5", None, 0.0),
        ("Fri, 02 Jan 2026 03:04:15 GMT", None, 10.0),
        ("Fri, 02 Jan 2026 03:04:15 -0000", None, 10.0),
        ("Sat, 03 Jan 2026 03:04:15 GMT", None, 30.0),
        ("Thu, 01 Jan 2026 03:04:15 GMT", 9, 0.0),
        ("Fri, 02 Jan 99999999999 03:04:15 GMT", None, 0.0),
        ("\u0667", None, 0.0),
    ],
)
def test_a_server_is_given_the_time_it_asks_for_up_to_a_limit(header: str, details: int | None, seconds: float) -> None:
    assert patience(header, details, NOW) == seconds
