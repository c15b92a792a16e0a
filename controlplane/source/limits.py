"""The times and sizes for following a collection of the API."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds. The server sends a bookmark about once a minute, so `idle` means a dead connection."""

    connect: float = 10.0
    idle: float = 150.0
    silence: float = 30.0  # of all watches of a source, before it asks the server whether it is alive
    answer: float = 10.0  # for the answer to that
    page: float = 60.0  # one page of a list
    watch: tuple[float, float] = (300.0, 600.0)  # the server ends a watch after a random time in this range
    lookout: tuple[float, float] = (30.0, 60.0)  # between tries for an absent optional resource, at random
    doubt: float = 30.0  # for how long lists must lack most objects before these count as deleted
    page_size: int = 500
    batch: int = 256  # events that are processed before other tasks get a turn
