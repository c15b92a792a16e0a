"""What takes too long is told once; what is short leaves one timer, whatever their number."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nodeagent.stream.bound import Bound


class Loop:
    """A clock, and timers that ring when it is turned."""

    def __init__(self) -> None:
        self.now, self.made = 0.0, 0
        self._timers: list[Any] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Any) -> Any:
        timer = Timer(when, call)
        self._timers.append(timer)
        self.made += 1
        return timer

    def turn(self, now: float) -> None:
        self.now = now
        due = [timer for timer in self._timers if timer.when <= now and not timer.cancelled]
        self._timers = [timer for timer in self._timers if timer.when > now]
        for timer in due:
            timer.call()


class Timer:
    def __init__(self, when: float, call: Any) -> None:
        self.when, self.call, self.cancelled = when, call, False

    def cancel(self) -> None:
        self.cancelled = True


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    made = Loop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: made)
    return made


def test_what_takes_too_long_is_told_once(loop: Loop) -> None:
    told: list[float] = []
    bound = Bound(10.0, lambda: told.append(loop.now))

    bound.begin()
    loop.turn(9.9)
    assert told == []
    loop.turn(10.0)
    loop.turn(30.0)
    assert told == [10.0]


def test_a_later_beginning_has_the_whole_time(loop: Loop) -> None:
    told: list[float] = []
    bound = Bound(10.0, lambda: told.append(loop.now))

    bound.begin()
    bound.end()
    loop.now = 6.0
    bound.begin()
    loop.turn(10.0)
    assert told == []
    loop.turn(16.0)
    assert told == [16.0]


def test_what_is_short_takes_one_timer_whatever_its_number(loop: Loop) -> None:
    bound = Bound(10.0, lambda: pytest.fail("told"))

    for _ in range(1000):
        bound.begin()
        bound.end()
    loop.turn(10.0)
    assert loop.made == 1
    loop.turn(50.0)
    assert loop.made == 1


def test_nothing_is_told_after_the_close(loop: Loop) -> None:
    bound = Bound(10.0, lambda: pytest.fail("told"))

    bound.begin()
    bound.close()
    loop.turn(10.0)
