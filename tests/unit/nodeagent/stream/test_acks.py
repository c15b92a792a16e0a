"""When an Ack is due: what the agent's ticker sleeps by."""

from __future__ import annotations

from math import inf

import pytest

from deltaplane.v1 import delta_pb2 as pb
from nodeagent.stream.acks import MOST_INTERVAL, MOST_WINDOW, Acks


def commit(acks: Acks, rev: int, now: float) -> None:
    acks.applied(rev, now, report=None, failed=(), unix_nano=0)


def test_without_a_commit_nothing_is_ever_due() -> None:
    assert Acks().due_in(5.0) == inf


def test_the_first_commit_is_due_at_once_and_later_ones_after_the_interval() -> None:
    acks = Acks()
    commit(acks, 1, 10.0)
    assert acks.due(10.0)
    acks.make(1, 10.0)
    assert acks.due_in(10.0) == inf
    commit(acks, 2, 10.1)
    assert acks.due_in(10.1) == pytest.approx(0.4)
    assert not acks.due(10.4)
    assert acks.due(10.6)


def test_what_somebody_waits_for_is_due_now() -> None:
    acks = Acks()
    acks.make(0, 10.0)
    acks.received(awaited=True)
    commit(acks, 1, 10.1)
    assert acks.due_in(10.1) == 0


def test_a_replica_that_asks_for_acks_in_days_gets_them_within_seconds() -> None:
    acks = Acks()
    acks.configure(pb.Welcome(min_ack_interval_ms=2**32 - 1, ack_window=2**32 - 1))
    acks.make(1, 10.0)
    commit(acks, 2, 10.1)
    assert acks.due(10.0 + MOST_INTERVAL)
    for _ in range(MOST_WINDOW // 2):
        acks.received(awaited=False)
    assert acks.due_in(10.1) == 0


def test_without_a_wish_the_window_stays() -> None:
    acks = Acks()
    acks.configure(pb.Welcome(min_ack_interval_ms=250))
    assert (acks.min_interval, acks.window) == (0.25, 64)
