"""WaitApplied for a pod that leaves: until no node sends new connections to it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from controlplane.facts import Fact
from controlplane.inspection.removal import OfRemoval
from deltaplane.model import EndpointSlice
from tests.sessions import objects
from tests.unit.controlplane.inspection.calls import LEAVING, READY, applied, change, reasons, wait
from tests.unit.controlplane.inspection.replica import Asked


@pytest.fixture
def asked() -> Asked:
    return Asked()


def pods(asked: Asked, conditions: dict[int, int], number: int = 1, owner: int | None = None) -> None:
    piece = objects.slice_of(number, conditions, owner)
    asked.cluster.update([Fact(piece.key, piece)])


async def test_a_pod_is_let_go_once_no_kernel_sends_new_connections_to_it(asked: Asked) -> None:
    session = asked.node("a")
    pods(asked, {1: READY, 2: READY})
    applied(asked, session)
    call = wait(asked, removed_address="10.0.0.1")
    await call.looked()
    assert not call.task.done()

    pods(asked, {1: LEAVING, 2: READY})  # it stays in its slice while it terminates
    await call.looked()
    assert not call.task.done()
    applied(asked, session)
    assert (await call.end()).applied


async def test_a_pod_that_terminates_and_is_the_last_is_still_used(asked: Asked) -> None:
    session = asked.node("a")
    pods(asked, {1: LEAVING})
    applied(asked, session)
    answer = await wait(asked, 0.2, removed_address="10.0.0.1").end()
    assert reasons(answer) == {"a": "REPLICA_BEHIND"}
    assert "10.0.0.1 still takes new connections of Service ns/svc-1" in answer.lacking[0].text


async def test_a_pod_that_is_used_again_while_a_node_is_late_is_not_let_go(asked: Asked) -> None:
    """The last ready endpoint leaves while one node has yet to let go: all nodes send to what terminates again."""
    quick, late = asked.node("a"), asked.node("b")
    pods(asked, {1: READY, 2: READY})
    applied(asked, quick)
    applied(asked, late)
    call = wait(asked, 2.0, removed_address="10.0.0.1")
    pods(asked, {1: LEAVING, 2: READY})
    applied(asked, quick)
    await call.looked()
    assert not call.task.done()

    pods(asked, {1: LEAVING})
    applied(asked, quick)
    applied(asked, late)
    answer = await call.end()
    assert not answer.applied
    assert set(reasons(answer)) == {"a", "b"}
    assert "used because no ready endpoint is left" in answer.lacking[0].text


async def test_changes_that_send_nothing_to_the_pod_do_not_put_off_the_answer(asked: Asked) -> None:
    pods(asked, {1: READY, 2: READY})
    target = OfRemoval(asked.here, "10.0.0.1")
    assert target.reached() is None
    pods(asked, {1: LEAVING, 2: READY})
    rev = target.reached()
    for other in range(3, 9):
        pods(asked, {1: LEAVING, 2: READY, other: READY})
        assert target.reached() == rev


async def test_a_pod_that_is_in_no_slice_is_let_go_where_the_newest_state_is(asked: Asked) -> None:
    applied(asked, asked.node("a"))
    assert (await wait(asked, removed_address="10.9.9.9").end()).applied


async def test_what_takes_its_place_is_part_of_letting_a_pod_go(asked: Asked) -> None:
    """A new ready endpoint in another slice of the Service is why the old one is used no more."""
    session = asked.node("a")
    pods(asked, {1: LEAVING})
    applied(asked, session)
    call = wait(asked, removed_address="10.0.0.1")
    await call.looked()
    other: EndpointSlice = replace(objects.slice_of(1, {2: READY}), name="svc-1-more")
    asked.cluster.update([Fact(other.key, other)])
    await call.looked()
    assert not call.task.done()
    applied(asked, session)
    assert (await call.end()).applied


async def test_a_pod_that_is_waited_for_is_looked_at_again_only_when_its_services_change(asked: Asked) -> None:
    pods(asked, {1: READY, 2: READY})
    target = OfRemoval(asked.here, "10.0.0.1")
    assert target.reached() is None
    looks = target.looks
    for number in range(2, 40):
        change(asked, number)
        assert target.reached() is None
    assert target.looks == looks
    pods(asked, {2: READY})
    assert target.reached() == asked.cluster.log.head


@pytest.mark.parametrize("there", [{}, {3: READY, 4: READY, 5: READY}], ids=["a new slice", "a patch"])
async def test_a_service_that_gets_the_address_of_a_pod_that_was_let_go_is_waited_for(
    asked: Asked, there: dict[int, int]
) -> None:
    asked.cluster.update([Fact(objects.service_key(2), objects.service(2))])
    if there:
        pods(asked, there, number=2)
    target = OfRemoval(asked.here, "10.0.0.1")
    pods(asked, {2: READY})
    assert target.reached() == asked.cluster.log.head
    pods(asked, {1: READY, **there}, number=2)
    assert target.reached() is None
    pods(asked, there, number=2)
    assert target.reached() == asked.cluster.log.head


async def test_a_slice_that_changes_to_another_service_leaves_its_first_one(asked: Asked) -> None:
    pods(asked, {1: READY, 2: READY})
    target = OfRemoval(asked.here, "10.0.0.1")
    assert target.reached() is None
    pods(asked, {2: READY}, owner=2)
    assert target.reached() == asked.cluster.log.head


async def test_each_change_is_looked_at_once_however_many_pods_are_waited_for(asked: Asked) -> None:
    pods(asked, {1: READY, 2: READY})
    waiting = [OfRemoval(asked.here, "10.0.0.1") for _ in range(50)]
    assert not any(target.reached() for target in waiting)
    before = asked.here.recent.looks
    for number in range(2, 40):
        change(asked, number)
        assert not any(target.reached() for target in waiting)
    assert asked.here.recent.looks - before == 38


async def test_a_pod_that_left_before_is_waited_for_where_a_kernel_may_have_it_still(asked: Asked) -> None:
    session = asked.node("a")
    pods(asked, {1: READY, 2: READY})
    applied(asked, session)
    pods(asked, {2: READY})  # the replica has seen it go before anybody asks; the node has not written it
    call = wait(asked, removed_address="10.0.0.1")
    await call.looked()
    assert not call.task.done()
    applied(asked, session)
    assert (await call.end()).applied


async def test_few_of_many_services_that_send_to_a_pod_are_named(asked: Asked) -> None:
    """The text is said of each node that lacks it: with all names an answer could not be sent."""
    for number in range(1, 200):
        change(asked, number)
        piece = objects.slice_of(number, {1: READY})
        asked.cluster.update([Fact(piece.key, piece)])
    text = OfRemoval(asked.here, "10.0.0.1")
    assert text.reached() is None
    assert "and 194 more: it is ready" in text.text()
    assert len(text.text()) < 300
