"""What a replica says of a stream whose agent did not say goodbye."""

from __future__ import annotations

from controlplane.acked import Acked
from controlplane.stream_ends import without_goodbye


def test_nobody_is_blamed_and_what_may_not_have_arrived_is_named() -> None:
    text = without_goodbye(100.0, 3, Acked(received_rev=1), 144.4)

    assert "the agent gave it up or ended, or the connection was lost" in text
    assert "its last message came 44 s before" in text
    assert "it was sent revision 3 and confirmed 1, so what this replica sends may not have reached it" in text


def test_an_agent_that_had_confirmed_everything_is_not_said_to_lack_anything() -> None:
    assert "confirmed" not in without_goodbye(100.0, 3, Acked(received_rev=3), 101.0)
    assert "last message" not in without_goodbye(0.0, 0, Acked(), 101.0)
