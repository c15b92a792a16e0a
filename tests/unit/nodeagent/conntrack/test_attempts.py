"""Which attempts to connect a change frees (J2, J5), as pure calls."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from msgspec.structs import replace

from deltaplane.forwarding import FrontendKind, ServiceForwarding, Target
from nodeagent.conntrack.attempts import Attempts
from nodeagent.conntrack.intent import Place
from nodeagent.conntrack.query import Query, queries
from tests.unit.nodeagent.conntrack.cases import (
    NODE,
    NODE_PORT,
    SCTP,
    SERVICE_PORT,
    TCP,
    VIRTUAL,
    addresses,
    entry,
    key,
    packed,
    service,
    simple,
    target,
)

E1, E2 = target("10.0.0.1"), target("10.0.0.2")
VIP = Place(packed(VIRTUAL[4][0]), SERVICE_PORT, TCP)
NODES = [Place(packed(address), NODE_PORT, TCP) for address in NODE[4]]
EVERYWHERE = {VIP, *NODES}


def tcp(*serving: Target, name: str = "web") -> ServiceForwarding:
    return simple(4, *serving, name=name, protocol=TCP)


def settled(*services: ServiceForwarding, on: frozenset[bytes] | None = None) -> Attempts:
    """Attempts that have nothing left to do about these Services."""
    attempts = Attempts()
    attempts.want(services, on or addresses(4), complete=True)
    attempts.commit()
    attempts.take()
    return attempts


def taken(attempts: Attempts) -> set[Place]:
    items = attempts.take()
    assert len(items) == len({item.place for item in items})
    assert attempts.take() == []
    return {item.place for item in items}


def change(attempts: Attempts, *services: ServiceForwarding, complete: bool = False) -> set[Place]:
    attempts.want(services, complete=complete)
    assert attempts.commit() or not attempts.take()
    return taken(attempts)


class Step(NamedTuple):
    name: str
    before: ServiceForwarding
    after: ServiceForwarding
    expected: set[Place]


CLUSTER_IP = entry(FrontendKind.CLUSTER_IP, 4, VIRTUAL[4][0], SERVICE_PORT, [E1], protocol=TCP)
OUTSIDE_ONLY = replace(entry(FrontendKind.NODE_PORT, 4, "", NODE_PORT, protocol=TCP), local_targets=(E1,))
STEPS = [
    Step("the Service comes", service(), tcp(E1), EVERYWHERE),
    Step("the first endpoint comes", tcp(), tcp(E1), EVERYWHERE),
    Step("the Service comes without endpoints", service(), tcp(), set()),
    Step("an endpoint is replaced", tcp(E1), tcp(E2), set()),
    Step("an endpoint comes", tcp(E1), tcp(E1, E2), set()),
    Step("the last endpoint goes", tcp(E1), tcp(), set()),
    Step("the Service goes", tcp(E1), service(), set()),
    Step("a node port comes", service(CLUSTER_IP), tcp(E1), set(NODES)),
    Step("an endpoint for clients from outside comes", tcp(), service(OUTSIDE_ONLY), set(NODES)),
    Step("UDP is not looked at", service(), simple(4, E1), set()),
    Step("UDP turns TCP", simple(4, E1), tcp(E1), EVERYWHERE),
    Step("SCTP comes", service(), simple(4, E1, protocol=SCTP), {each._replace(protocol=SCTP) for each in EVERYWHERE}),
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_frontend_that_leads_somewhere_for_the_first_time_is_looked_at(step: Step) -> None:
    assert change(settled(step.before), step.after) == step.expected


def test_a_whole_state_is_looked_at_where_it_differs() -> None:
    attempts = settled(tcp(E1), tcp(E1, name="gone"))
    assert change(attempts, tcp(E1), complete=True) == set()
    other = service(entry(FrontendKind.CLUSTER_IP, 4, VIRTUAL[4][1], 1, [E1], protocol=TCP), name="gone")
    assert change(attempts, tcp(E1), other) == {Place(packed(VIRTUAL[4][1]), 1, TCP)}


def test_what_failed_waits_for_its_own_commit() -> None:
    attempts = settled()
    attempts.want([tcp(E1)])
    assert not attempts.commit({key()})
    assert attempts.take() == []
    assert attempts.commit()
    assert taken(attempts) == EVERYWHERE


def test_what_leads_nowhere_again_is_left_alone() -> None:
    attempts = settled()
    for after in (tcp(), service()):
        attempts.want([tcp(E1)])
        attempts.commit()
        assert change(attempts, after) == set()


def test_what_could_not_be_done_is_due_again() -> None:
    attempts = settled()
    attempts.want([tcp(E1)])
    attempts.commit()
    attempts.again(attempts.take())
    assert attempts.commit()
    assert taken(attempts) == EVERYWHERE


def test_node_ports_on_a_new_address_are_looked_at_there() -> None:
    first, second = NODES
    attempts = settled(tcp(E1), simple(6, target("fd00::1"), name="six", protocol=TCP), on=addresses(4, number=1))
    attempts.want([], addresses(4))
    attempts.commit()
    assert taken(attempts) == {second}
    attempts.want([], [first.address])
    attempts.want([], addresses(4))
    attempts.want([], [first.address])
    attempts.commit()
    assert taken(attempts) == set()


def test_few_places_are_asked_for_by_name_and_many_of_a_protocol_at_once() -> None:
    attempts = settled()
    attempts.want([service(CLUSTER_IP)])
    attempts.commit()
    assert queries(attempts.take()) == [Query(4, VIP, protocol=TCP)]
    many = [
        entry(FrontendKind.CLUSTER_IP, 4, VIRTUAL[4][0], port, [E1], protocol=protocol)
        for protocol in (TCP, SCTP)
        for port in range(20)
    ]
    attempts.want([service(*many)])
    attempts.commit()
    assert queries(attempts.take()) == [Query(4, protocol=TCP), Query(4, protocol=SCTP)]
