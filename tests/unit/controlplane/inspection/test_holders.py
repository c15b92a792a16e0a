"""Which Services have an address: known without a look at all slices for each question."""

from __future__ import annotations

from controlplane.facts import Fact
from deltaplane.addresses import parse_address
from deltaplane.model import Kind, ObjectKey
from tests.sessions import objects
from tests.unit.controlplane.inspection.calls import READY
from tests.unit.controlplane.inspection.replica import Asked

ADDRESS = parse_address("10.0.0.7")


def pods(asked: Asked, number: int, *last: int) -> None:
    piece = objects.slice_of(number, dict.fromkeys(last, READY))
    asked.cluster.update([Fact(piece.key, piece)])


async def test_a_second_question_costs_what_has_changed_and_not_all_slices() -> None:
    here = Asked().here
    assert here.services_at(ADDRESS) == []
    for _ in range(20):
        here.services_at(ADDRESS)
        here.slices_of("ns", "svc-1")
    assert here.holders.built == 1


async def test_an_address_is_found_where_it_comes_later() -> None:
    asked = Asked()
    assert asked.here.services_at(ADDRESS) == []
    pods(asked, 2, 7)
    assert asked.here.services_at(ADDRESS) == [("ns", "svc-2")]
    assert asked.here.holders.built == 1


async def test_slices_of_a_service_are_those_of_now() -> None:
    asked = Asked()
    pods(asked, 2, 7)
    (piece,) = asked.here.slices_of("ns", "svc-2")
    asked.cluster.update([Fact(ObjectKey(Kind.ENDPOINT_SLICE, piece.namespace, piece.name), None)])
    assert asked.here.slices_of("ns", "svc-2") == []


async def test_another_history_is_read_anew() -> None:
    asked = Asked()
    assert asked.here.services_at(ADDRESS) == []
    asked.cluster.log.renew(asked.cluster.store.digest.value)
    asked.here.services_at(ADDRESS)
    assert asked.here.holders.built == 2
