"""What this node's own state says of a Pod that asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest

from deltaplane.model import Conditions, Upsert
from nodeagent.drain.callers import Caller, Refused
from nodeagent.drain.own import AFTER_A_PAUSE, OwnState
from nodeagent.stream.beside import never
from nodeagent.stream.mirror import Mirror
from tests.sessions import objects

T = TypeVar("T")
READY = int(Conditions.READY | Conditions.SERVING)
LEAVING = int(Conditions.SERVING | Conditions.TERMINATING)
POD, STRANGER = bytes([10, 0, 0, 1]), bytes([203, 0, 113, 5])


async def turn(call: Callable[[], T], *, long: Callable[[], bool] = never) -> T:
    return call()


class Node:
    def __init__(self) -> None:
        self.mirror = Mirror()
        self.state = OwnState(turn, "n1", lambda: self.mirror, frozenset, lambda: ("10.0.0.0/8",))
        self.take(Upsert(objects.service(1)))

    def take(self, *ops: Upsert) -> None:
        self.mirror.commit(self.mirror.prepare(ops))

    def pods(self, conditions: dict[int, int]) -> None:
        self.take(Upsert(objects.slice_of(1, conditions)))


async def test_the_service_that_still_sends_to_a_pod_is_named_until_it_does_not() -> None:
    node = Node()
    caller = Caller(POD, frozenset({("ns", "svc-1")}))
    node.pods({1: READY, 2: READY})
    assert await node.state.still(caller) == "Service ns/svc-1 still sends to it: it is ready"
    node.pods({1: LEAVING, 2: READY})
    assert await node.state.still(caller) == ""
    node.pods({1: LEAVING})
    assert "no ready endpoint is left" in await node.state.still(caller)


async def test_addresses_from_outside_are_searched_for_a_bounded_number_of_times() -> None:
    node = Node()
    refused = []
    for _ in range(int(AFTER_A_PAUSE) + 5):
        with pytest.raises(Refused) as why:
            await node.state.caller(STRANGER)
        refused.append(why.value.status)
    assert refused[0] == 403
    assert refused[-1] == 429
    assert await node.state.caller(POD) == Caller(POD)
