"""Which listeners a Service needs, and which address leads to which."""

from __future__ import annotations

from msgspec.structs import replace

from deltaplane.forwarding import FrontendKind, Verdict
from nodeagent.dataplane.frontend_key import identity
from nodeagent.dataplane.userspace.plan import Line, Port, Route, plan
from tests.unit.nodeagent.dataplane.userspace.support import KEY, entry, node_port, service, target, vip

BOTH = frozenset((4, 6))
A, B = target(1), target(2)


def port(scope: str, *ranges: str, protocol: int = 6) -> Port:
    return Port(KEY, "p", 4, protocol, scope, ranges)


def test_all_addresses_of_a_kind_share_a_listener() -> None:
    outer = entry(vip(2, kind=FrontendKind.EXTERNAL_IP), A), entry(vip(3, kind=FrontendKind.LOAD_BALANCER), A)
    made = plan(service(entry(vip(), A), entry(node_port(), A), *outer), BOTH)
    assert made.lines == {port("cluster"): Line((A,)), port("external"): Line((A,))}
    assert set(made.routes.values()) == {Route(port("cluster")), Route(port("external"))}
    assert made.cluster_ips == (b"\x04\x00" + vip().address,)


def test_families_and_protocols_have_their_own() -> None:
    made = plan(service(entry(vip(), A), entry(vip(protocol=17), A), entry(vip(family=6), target(1, "::1"))), BOTH)
    assert {(p.family, p.protocol) for p in made.lines} == {(4, 6), (4, 17), (6, 6)}
    assert {(p.family, p.protocol) for p in plan(service(entry(vip(family=6), A)), frozenset((4,))).lines} == set()


def test_sources_outside_have_a_listener_of_their_own_or_a_verdict() -> None:
    policy = replace(entry(node_port(), A, B), local_targets=(A,))
    slot = identity(policy)
    made = plan(service(policy), BOTH)
    assert made.lines == {port("external"): Line((A, B)), port("outside"): Line((A,))}
    assert made.routes == {slot: Route(port("external"), port("outside"))}
    silent = plan(service(replace(policy, local_targets=(), external_verdict=Verdict.DROP)), BOTH)
    assert silent.routes == {slot: Route(port("external"), Verdict.DROP)}
    nobody = replace(entry(node_port()), local_targets=(), external_verdict=Verdict.REJECT)
    assert plan(service(nobody), BOTH).routes == {slot: Route(Verdict.REJECT)}
    assert plan(service(nobody), BOTH).lines == {}


def test_closed_to_some_sources_an_address_has_its_own_even_if_it_is_open_as_well() -> None:
    address = vip(2, kind=FrontendKind.LOAD_BALANCER)
    guarded = replace(entry(address, A), source_ranges=("10.0.0.0/8",))
    made = plan(service(entry(vip(2, kind=FrontendKind.EXTERNAL_IP), A), guarded), BOTH)
    assert made.routes == {identity(guarded): Route(port("external", "10.0.0.0/8"))}


def test_two_lists_under_one_name_are_two_listeners() -> None:
    made = plan(service(entry(node_port(), A), entry(node_port(port=30081), B)), BOTH)
    assert sorted(line.targets for line in made.lines.values()) == [(A,), (B,)]
    assert len(set(made.routes.values())) == 2


def test_sctp_is_named_and_left_out() -> None:
    made = plan(service(entry(vip(protocol=132), A), entry(vip(), A)), BOTH)
    assert made.unsupported == ("SCTP port p",)
    assert len(made.routes) == 1
    assert plan(service(entry(vip(protocol=132))), BOTH).unsupported == ()
