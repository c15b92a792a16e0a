"""Which attempts to connect a change frees (J2, J5), as pure calls."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from msgspec.structs import replace

from deltaplane.forwarding import Entry, Frontend, FrontendKind, Masquerade, ServiceForwarding, Target, Verdict
from deltaplane.model import Kind, ObjectKey
from nodeagent.conntrack.attempts import PER_ROUND, Attempts
from nodeagent.conntrack.places import Place
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


def test_an_address_and_another_change_of_the_same_service_are_both_looked_at_and_only_after_the_commit() -> None:
    attempts = Attempts()
    first, second = packed("192.168.0.2"), packed("192.168.0.3")
    node_port = Frontend(FrontendKind.NODE_PORT, 4, b"", 6, 32000)
    virtual = Frontend(FrontendKind.CLUSTER_IP, 4, packed("172.30.0.1"), 6, 80)
    web = ObjectKey(Kind.SERVICE, "ns", "web")

    def serving(*frontends: Frontend) -> ServiceForwarding:
        made = (Entry(each, "", (E1,), Verdict.FORWARD, Masquerade.ALWAYS) for each in frontends)
        return ServiceForwarding(web, tuple(made))

    attempts.want([serving(node_port)], [first], complete=True)
    attempts.commit()
    assert [item.place.address for item in attempts.take()] == [first]
    attempts.want([serving(node_port, virtual)])
    attempts.want([], [first, second])
    attempts.commit({web})
    assert attempts.take() == []
    attempts.commit()
    assert {item.place.address for item in attempts.take()} == {second, virtual.address}
    assert not attempts.due


def test_a_start_with_many_services_is_looked_through_in_rounds() -> None:
    attempts = Attempts()
    services = [
        ServiceForwarding(
            ObjectKey(Kind.SERVICE, "ns", f"s{n}"),
            (Entry(Frontend(FrontendKind.CLUSTER_IP, 4, n.to_bytes(4, "big"), 6, 80), "", (E1,), Verdict.FORWARD,
                   Masquerade.ALWAYS),),
        )
        for n in range(1, PER_ROUND + 3)
    ]  # fmt: skip
    attempts.want(services, [], complete=True)
    attempts.commit()
    rounds = [len(attempts.take()), len(attempts.take())]
    assert rounds == [PER_ROUND, 2]
    assert not attempts.due
