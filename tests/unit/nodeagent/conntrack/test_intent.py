"""Which flows a change makes stale (J1-J5), as pure calls."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from msgspec.structs import replace

from deltaplane.forwarding import FrontendKind, ServiceForwarding, Target
from deltaplane.model import LoadBalancerIngress, Protocol, Service, ServicePort, ServiceType
from deltaplane.resolve import NodeView, resolve
from nodeagent.conntrack.clients import Stay
from nodeagent.conntrack.intent import LEFT, CleanUp, Intents
from nodeagent.conntrack.places import Place, flows_of, place_of
from nodeagent.conntrack.query import Flow, Query, queries
from tests.unit.nodeagent.conntrack.cases import (
    NODE,
    NODE_PORT,
    SERVICE_PORT,
    TCP,
    VIRTUAL,
    addresses,
    balanced,
    entry,
    key,
    packed,
    place,
    service,
    simple,
    target,
)

E1, E2, E3 = target("10.0.0.1"), target("10.0.0.2"), target("10.0.0.3")
VIP = place(VIRTUAL[4][0], SERVICE_PORT)
NODES = [place(address, NODE_PORT) for address in NODE[4]]
EVERYWHERE = [VIP, *NODES]


def at(places: list[Place], *sources: Target, others: bool = False) -> set[CleanUp]:
    return {CleanUp(key(), each, frozenset(sources), others) for each in places}


def settled(*services: ServiceForwarding, on: frozenset[bytes] | None = None) -> Intents:
    """Intents that have nothing left to do about these Services."""
    intents = Intents()
    intents.want(services, on or addresses(4), complete=True)
    intents.commit()
    intents.take()
    return intents


def change(intents: Intents, *services: ServiceForwarding, complete: bool = False) -> set[CleanUp]:
    intents.want(services, complete=complete)
    intents.commit()
    items = intents.take()
    assert len(items) == len(set(items))
    assert intents.take() == []
    return set(items)


class Step(NamedTuple):
    name: str
    before: ServiceForwarding
    after: ServiceForwarding
    expected: set[CleanUp]


STEPS = [
    Step("an endpoint goes", simple(4, E1, E2), simple(4, E2), at(EVERYWHERE, E1)),
    Step("the last endpoint goes (J3)", simple(4, E1, E2), simple(4), at(EVERYWHERE, E1, E2)),
    Step("the Service goes (J3)", simple(4, E1, E2), service(), at(EVERYWHERE, E1, E2)),
    Step("an endpoint is replaced", simple(4, E1), simple(4, E2), at(EVERYWHERE, E1)),
    Step("an endpoint comes", simple(4, E1), simple(4, E1, E2), set()),
    Step("nothing changes", simple(4, E1), simple(4, E1), set()),
    Step("the first endpoint comes (J2)", simple(4), simple(4, E1), at(EVERYWHERE, E1, others=True)),
    Step("the Service comes", service(), simple(4, E1), at(EVERYWHERE, E1, others=True)),
    Step("the Service comes without endpoints", service(), simple(4), at(EVERYWHERE, others=True)),
    Step("an empty Service goes", simple(4), service(), set()),
    Step(
        "the node port goes",
        simple(4, E1),
        service(entry(FrontendKind.CLUSTER_IP, 4, VIRTUAL[4][0], SERVICE_PORT, [E1])),
        at(NODES, E1),
    ),
    Step("TCP is not looked at (J5)", simple(4, E1, protocol=TCP), simple(4, protocol=TCP), set()),
    Step("UDP turns TCP", simple(4, E1), simple(4, E1, protocol=TCP), at(EVERYWHERE, E1)),
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_change_takes_what_it_took_away(step: Step) -> None:
    intents = settled(step.before)
    assert change(intents, step.after) == step.expected


def test_flows_stay_with_whom_policy_passes_over_but_who_still_serves() -> None:
    """J2: topology, policy and termination choose for new flows only; and what is chosen is never stale."""
    chosen = entry(FrontendKind.CLUSTER_IP, 4, VIRTUAL[4][0], SERVICE_PORT, [E1])
    odd = replace(chosen, serving=(E2,), targets=(E1,), local_targets=(E3,))
    assert flows_of([odd]) == {VIP: Stay((E1, E2, E3))}
    narrowed = replace(chosen, serving=(E1, E2), targets=(E2,))
    assert change(settled(service(narrowed)), service(replace(narrowed, targets=(E1,)))) == set()


def test_the_tuple_of_serving_endpoints_is_shared_not_copied() -> None:
    made = entry(FrontendKind.CLUSTER_IP, 4, VIRTUAL[4][0], SERVICE_PORT, [E1, E2])
    assert flows_of([made])[VIP].targets is made.serving


def test_a_start_looks_at_every_frontend() -> None:
    intents = Intents()
    intents.want([simple(4, E1), simple(4, E1, name="tcp", protocol=TCP)], addresses(4), complete=True)
    intents.commit()
    assert set(intents.take()) == at(EVERYWHERE, E1, others=True)


def test_what_a_whole_state_lacks_is_gone() -> None:
    intents = settled(simple(4, E1))
    assert change(intents, complete=True) == at(EVERYWHERE, E1)


def test_what_failed_waits_for_its_own_commit() -> None:
    intents = settled(simple(4, E1), simple(6, target("fd00::1"), name="other"), on=addresses())
    intents.want([simple(4), simple(6, name="other")])
    assert intents.commit({key()})
    assert {item.key for item in intents.take()} == {key("other")}
    assert not intents.commit({key()})
    assert intents.commit()
    assert set(intents.take()) == at(EVERYWHERE, E1)


def test_a_refused_commit_loses_nothing_and_who_comes_back_is_spared() -> None:
    intents = settled(simple(4, E1, E2))
    intents.want([simple(4)])
    intents.want([simple(4, E2)])
    assert intents.commit()
    assert set(intents.take()) == at(EVERYWHERE, E2, others=True)


def test_what_could_not_be_done_is_due_again_in_the_light_of_now() -> None:
    intents = settled(simple(4, E1, E2))
    intents.want([simple(4, E2)])
    intents.commit()
    items = intents.take()
    intents.again(items)
    assert intents.take() == items
    intents.again(items)
    assert change(intents, simple(4, E1, E2)) == set()


def test_a_whole_look_at_what_is_no_longer_forwarded_is_dropped() -> None:
    """Whoever has the port now is none of ours."""
    intents = settled(simple(4, E1))
    intents.again(at(NODES, E1, others=True))
    assert change(intents, service()) == at(EVERYWHERE, E1)


def test_node_ports_follow_the_nodes_addresses() -> None:
    first, second = NODES
    intents = settled(simple(4, E1), on=addresses(4, number=1))
    intents.want([], addresses(4))
    intents.commit()
    assert set(intents.take()) == at([second], E1, others=True)
    intents.want([], [packed(NODE[4][1])])
    intents.commit()
    assert set(intents.take()) == at([first], E1)
    intents.want([simple(4)], [packed(NODE[4][1])])
    intents.commit()
    assert set(intents.take()) == at([VIP, second], E1)


def test_what_the_kernel_had_and_nobody_has_is_left_over() -> None:
    """A Service that was deleted while the agent was down; what is still forwarded is looked at as ever."""
    intents, lost = Intents(), place("172.30.9.9", 53)
    intents.adopt([VIP, lost, place("192.168.0.2", NODE_PORT)])
    intents.want([simple(4, E1)], complete=True)
    intents.commit()
    assert set(intents.take()) == at([VIP], E1, others=True)
    intents.want([], addresses(4))
    intents.commit()
    left = [item for item in intents.take() if item.key == LEFT]
    assert left == [CleanUp(LEFT, lost, frozenset(), others=True)]
    intents.again(left)
    assert intents.take() == left


def test_a_node_port_the_kernel_had_is_left_over_on_each_of_the_nodes_addresses() -> None:
    intents = Intents()
    intents.adopt([place_of(4, b"", NODE_PORT), place_of(4, b"", 30001), place_of(6, b"", 30001)])
    intents.want([simple(4, E1)], addresses(4), complete=True)
    intents.commit()
    left = {item.place for item in intents.take() if item.key == LEFT}
    assert left == {Place(address, 30001) for address in addresses(4)}


def test_what_failed_is_not_forgotten_when_its_node_port_closes_meanwhile() -> None:
    """Looking at all flows of an open node port failed; once it is closed, those of its former endpoint still go."""
    first, second = NODES
    intents = Intents()
    intents.want([simple(4, E1)], addresses(4), complete=True)
    intents.want([simple(4, E2)])
    intents.commit()
    intents.again(intents.take())
    intents.want([], [packed(NODE[4][0])])
    intents.commit()
    items = set(intents.take())
    assert {item for item in items if item.place == second} == at([second], E1, E2)
    assert {item for item in items if item.place == first} == at([first], E2, others=True)


def test_two_services_on_one_address_spare_each_others_flows() -> None:
    intents = settled(simple(4, E1))
    new = change(intents, simple(4, E2, name="rival"))
    assert {item.sources for item in new} == {frozenset((E1, E2))}
    assert change(intents, service()) == at(EVERYWHERE, E1)
    assert change(intents, simple(4, E2)) == {CleanUp(key(), p, frozenset((E2,)), others=True) for p in EVERYWHERE}
    assert change(intents, service()) == set()


def test_an_external_address_that_is_the_nodes_own_counts_with_its_node_port() -> None:
    external = service(entry(FrontendKind.EXTERNAL_IP, 4, NODE[4][0], NODE_PORT, [E2]), name="rival")
    items = change(settled(simple(4, E1)), external)
    assert items == {CleanUp(key("rival"), NODES[0], frozenset((E1, E2)), others=True)}


# ------------------------------------------------------------ source ranges

BALANCER = place(VIRTUAL[4][2], SERVICE_PORT)
HALF, OTHER_HALF, WHOLE = "203.0.113.0/25", "203.0.113.128/25", "203.0.113.0/24"
NEAR, FAR = packed("203.0.113.7"), packed("203.0.113.200")  # in HALF, in OTHER_HALF


def taken(items: set[CleanUp], at: Place = BALANCER, sources: tuple[Target, ...] = (E1, E2)) -> set[bytes]:
    """Which of the two clients lose their flows with any of these endpoints."""
    return {
        client
        for item in items
        for client in (NEAR, FAR)
        if item.place == at and any(item.takes(Flow(at, source, b"", client)) for source in sources)
    }


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((WHOLE,), (HALF,), {FAR}),
        ((), (HALF,), {FAR}),
        ((HALF,), (OTHER_HALF,), {NEAR}),
        ((HALF, OTHER_HALF), ("198.51.100.0/24",), {NEAR, FAR}),
    ],
)
def test_ranges_that_narrow_take_the_clients_they_took_away_and_no_other_place(
    before: tuple[str, ...], after: tuple[str, ...], expected: set[bytes]
) -> None:
    items = change(settled(balanced(4, [E1, E2], *before)), balanced(4, [E1, E2], *after))
    assert {item.place for item in items} == {BALANCER}
    assert taken(items) == expected
    assert queries(list(items)) == [Query(4, BALANCER)]


@pytest.mark.parametrize(
    ("before", "after"),
    [((HALF,), (WHOLE,)), ((HALF,), ()), ((HALF, OTHER_HALF), (WHOLE,)), ((WHOLE,), (HALF, OTHER_HALF))],
)
def test_ranges_that_take_nobody_away_cost_no_look(before: tuple[str, ...], after: tuple[str, ...]) -> None:
    assert change(settled(balanced(4, [E1], *before)), balanced(4, [E1], *after)) == set()


def test_ranges_of_a_service_without_endpoints_cost_no_look() -> None:
    assert change(settled(balanced(4, [], WHOLE)), balanced(4, [], HALF)) == set()


def test_an_endpoint_that_goes_costs_the_same_beside_ranges() -> None:
    items = change(settled(balanced(4, [E1, E2], WHOLE)), balanced(4, [E2], WHOLE))
    assert items == at([*EVERYWHERE, BALANCER], E1)


def test_only_a_load_balancers_address_has_ranges() -> None:
    odd = [replace(each, source_ranges=(HALF,)) for each in simple(4, E1).entries]
    assert {stay.ranges for stay in flows_of(odd).values()} == {()}


def test_an_address_given_as_an_external_ip_too_is_closed_all_the_same() -> None:
    external = entry(FrontendKind.EXTERNAL_IP, 4, VIRTUAL[4][2], SERVICE_PORT, [E1])
    guarded = balanced(4, [E1], HALF).entries
    assert flows_of([external, *guarded])[BALANCER] == flows_of([*guarded, external])[BALANCER] == Stay((E1,), (HALF,))


def test_an_address_that_resolve_found_given_twice_has_its_load_balancers_ranges() -> None:
    own = packed(VIRTUAL[4][0])
    dns = Service(
        *("ns", "web", ServiceType.LOAD_BALANCER, (own,), (ServicePort("", Protocol.UDP, SERVICE_PORT),)),
        load_balancer_ingress=(LoadBalancerIngress(own),),
        load_balancer_source_ranges=(HALF,),
    )
    found = resolve(dns.key, dns, (), NodeView("here"))
    assert {at: stay.ranges for at, stay in flows_of(found.entries).items()} == {VIP: (HALF,)}


def test_a_start_counts_the_ranges() -> None:
    """J9: they may have narrowed while the agent was down, and every frontend is looked at then in any case."""
    intents = Intents()
    intents.want([balanced(4, [E1, E2], HALF)], addresses(4), complete=True)
    intents.commit()
    items = set(intents.take())
    assert taken(items) == {FAR}
    assert taken(items, VIP) == taken(items, NODES[0]) == set()


def test_ranges_that_hold_when_flows_are_taken_count() -> None:
    intents = settled(balanced(4, [E1], WHOLE))
    intents.want([balanced(4, [E1], HALF)])
    intents.commit()
    assert taken(change(intents, balanced(4, [E1], OTHER_HALF)), sources=(E1,)) == {NEAR}
    intents.want([balanced(4, [E1], HALF)])
    intents.commit()
    assert taken(change(intents, balanced(4, [E1])), sources=(E1,)) == set()


def test_ranges_that_a_failed_commit_lacks_wait_for_it() -> None:
    intents = settled(balanced(4, [E1], WHOLE))
    intents.want([balanced(4, [E1], HALF)])
    assert not intents.commit({key()})
    assert intents.take() == []
    assert intents.commit()
    items = intents.take()
    assert taken(set(items), sources=(E1,)) == {FAR}
    intents.again(items)
    assert intents.take() == items


def test_ranges_that_narrowed_do_not_hide_that_the_service_goes() -> None:
    intents = settled(balanced(4, [E1], WHOLE))
    intents.want([balanced(4, [E1], HALF)])
    assert taken(change(intents, service()), sources=(E1,)) == {NEAR, FAR}


def test_who_shares_a_place_keeps_the_flows_that_it_admits_itself() -> None:
    """Ranges are its owner's: a client out of one Service's ranges may be in those of the other, which has its flow."""
    intents = settled(balanced(4, [E1], WHOLE), balanced(4, [E2], OTHER_HALF, name="rival"))
    items = change(intents, balanced(4, [E1], HALF))
    assert taken(items, sources=(E1,)) == {FAR}
    assert taken(items, sources=(E2,)) == {NEAR}
    both = change(settled(balanced(4, [E1], WHOLE), balanced(4, [E1], name="rival")), balanced(4, [E1], HALF))
    assert taken(both, sources=(E1,)) == set()


def test_whoever_only_the_service_that_goes_admitted_goes_with_it() -> None:
    intents = settled(balanced(4, [E1]), balanced(4, [E1], HALF, name="rival"))
    assert taken(change(intents, service()), sources=(E1,)) == {FAR}


# ------------------------------------------------------------ questions


def test_few_places_are_asked_for_by_name_and_many_at_once() -> None:
    one = list(at([VIP], E1))
    assert queries(one) == [Query(4, VIP, E1)]
    assert queries(list(at([VIP], E1, E2))) == [Query(4, VIP)]
    assert queries(list(at([VIP], E1, others=True))) == [Query(4, VIP)]
    assert queries(one * 20) == [Query(4, VIP, E1)]
    many = list(at([place(f"172.30.0.{n}", 53) for n in range(20)], E1))
    assert queries(many) == [Query(4)]
