"""Who may wait: Pods that end take no room from operators, and one node's none from the others."""

from __future__ import annotations

import pytest

from controlplane.inspection.rooms import OF_ONE_HOST, WAITERS, Rooms, TooManyWaiters
from deltaplane.v1 import inspection_pb2 as pb

GONE = pb.WaitAppliedRequest(removed_address="10.0.0.1")
QUESTION = pb.WaitAppliedRequest(revision=pb.RevisionOf(rev=1))


def test_one_host_has_its_share_of_pods_that_end_and_others_find_room() -> None:
    room = Rooms().of(GONE)
    for _ in range(OF_ONE_HOST):
        room.enter("10.0.0.1")
    with pytest.raises(TooManyWaiters, match=f"{OF_ONE_HOST} of this address"):
        room.enter("10.0.0.1")
    room.enter("10.0.0.2")
    room.leave("10.0.0.1")
    room.enter("10.0.0.1")


def test_a_peer_asks_for_all_of_its_agents() -> None:
    room = Rooms().of(GONE)
    for _ in range(4 * OF_ONE_HOST):
        room.enter("10.0.0.1", peer=True)


def test_pods_that_end_take_no_room_from_operators() -> None:
    rooms = Rooms()
    for number in range(WAITERS):
        rooms.of(GONE).enter(f"10.0.0.{number}")
    rooms.of(QUESTION).enter("10.0.0.1")
