"""Whose address it is: a ClusterIP is its Service's; of external claims the oldest one wins, whatever came first."""

from __future__ import annotations

import asyncio
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from deltaplane.forwarding import FrontendKind, ServiceForwarding
from deltaplane.frontends import Frontends
from deltaplane.model import Endpoint, EndpointPort, EndpointSlice, Object, Service, ServicePort, ServiceType
from deltaplane.resolve import NodeView, resolve
from deltaplane.resolve import frontends as frontends_of
from nodeagent.dataplane.resolver import Resolver
from nodeagent.stream.mirror import Mirror
from nodeagent.stream.servers import WAYS, Servers
from tests.unit.nodeagent.test_invalid_objects import put as put_in_mirror

DNS_IP, OTHER_IP, OUTSIDE = bytes((172, 30, 0, 10)), bytes((172, 30, 0, 99)), bytes((198, 51, 100, 7))
DNS_PORT, WEB = ServicePort("dns", 17, 53), ServicePort("web", 6, 80)
VIEW = NodeView("node-1")


def service(
    name: str, ip: bytes, *, port: ServicePort = DNS_PORT, external: tuple[bytes, ...] = (), created: int = 0
) -> Service:
    namespace, _, name = name.rpartition("/")
    return Service(namespace or "ns", name, ServiceType.CLUSTER_IP, (ip,), (port,), external, created=created)


DNS = service("kube-system/dns", DNS_IP, created=200)
EVIL = service("aaa/evil", OTHER_IP, external=(DNS_IP,), created=100)
EVIL_ELSEWHERE = replace(EVIL, ports=(WEB,))
OLD, YOUNG = (
    service(name, ip, external=(OUTSIDE,), created=at) for name, ip, at in [("z", DNS_IP, 5), ("a", OTHER_IP, 6)]
)


def served(*order: Service) -> tuple[dict[tuple[str, bytes, int, int], str], list[str]]:
    """Who has which address and port in the end, and what is said of the losers."""
    mirror = Mirror()
    resolver = Resolver(mirror)
    kernel: dict[str, ServiceForwarding] = {}
    for one in order:
        put_in_mirror(mirror, one)
        for found in resolver.resolve([(one.namespace, one.name)], VIEW):
            kernel[f"{found.key.namespace}/{found.key.name}"] = found
    owners: dict[tuple[str, bytes, int, int], str] = {}
    for name, forwarding in kernel.items():
        for entry in forwarding.entries:
            kind, _, address, protocol, number = entry.frontend
            slot = ("node port" if kind == FrontendKind.NODE_PORT else "", address, protocol, number)
            assert owners.setdefault(slot, name) == name, "two Services have one frontend"
    return owners, [failed.text for failed in resolver.failures()]


@pytest.mark.parametrize("order", list(permutations([DNS, EVIL])))
def test_a_clusterip_is_nobody_elses_external_address(order: tuple[Service, ...]) -> None:
    owners, said = served(*order)
    assert owners["", DNS_IP, 17, 53] == "kube-system/dns"
    assert owners["", OTHER_IP, 17, 53] == "aaa/evil"
    assert said == ["Service aaa/evil: UDP 172.30.0.10:53 belongs to Service kube-system/dns: change one of them"]


@pytest.mark.parametrize("order", list(permutations([DNS, EVIL_ELSEWHERE])))
def test_a_clusterip_is_nobody_elses_on_any_other_port_either(order: tuple[Service, ...]) -> None:
    owners, said = served(*order)
    assert ("", DNS_IP, 6, 80) not in owners
    assert said == ["Service aaa/evil: TCP 172.30.0.10:80 belongs to Service kube-system/dns: change one of them"]


@pytest.mark.parametrize("order", list(permutations([OLD, YOUNG])))
def test_of_two_external_claims_the_older_service_keeps_the_address(order: tuple[Service, ...]) -> None:
    owners, said = served(*order)
    assert owners["", OUTSIDE, 17, 53] == "ns/z"
    assert said == ["Service ns/a: UDP 198.51.100.7:53 belongs to Service ns/z: change one of them"]


def test_without_an_age_the_name_decides_and_an_age_comes_before_none() -> None:
    ageless = [replace(each, created=0) for each in (OLD, YOUNG)]
    assert served(*ageless)[0]["", OUTSIDE, 17, 53] == "ns/a"
    assert served(OLD, replace(YOUNG, created=0))[0]["", OUTSIDE, 17, 53] == "ns/z"


def test_a_loser_gets_the_address_when_the_holder_lets_go() -> None:
    owners, said = served(OLD, YOUNG, replace(OLD, external_ips=()))
    assert owners["", OUTSIDE, 17, 53] == "ns/a"
    assert said == []


def test_a_service_may_have_its_own_clusterip_as_an_external_address() -> None:
    owners, said = served(replace(DNS, external_ips=(DNS_IP,)))
    assert owners["", DNS_IP, 17, 53] == "kube-system/dns"
    assert said == []


def test_a_whole_state_forgets_the_claims_of_those_that_are_gone() -> None:
    mirror = Mirror()
    resolver = Resolver(mirror)
    put_in_mirror(mirror, OLD)
    resolver.resolve_all(VIEW)
    del mirror.services["ns", "z"]
    put_in_mirror(mirror, YOUNG)
    (found,) = resolver.resolve_all(VIEW)
    assert {entry.frontend.address for entry in found.entries} == {OTHER_IP, OUTSIDE}
    assert list(resolver.failures()) == []


def test_a_change_of_endpoints_touches_nobody() -> None:
    frontends = Frontends()
    made = resolve(OLD.key, OLD, (), VIEW)
    assert frontends.put(OLD.key, OLD) == set()
    assert frontends.put(YOUNG.key, YOUNG) == set()  # it gets nothing of the other's
    assert frontends.put(OLD.key, replace(OLD)) == set()
    assert frontends.grant(made) is made


def reserved(*servers: str) -> frozenset[bytes]:
    """What these take, as the agent is told."""
    told: list[frozenset[bytes]] = []

    async def reserve(slots: frozenset[bytes]) -> None:
        told.append(slots)

    asyncio.run(Servers(servers, reserve).begin())
    return told[-1]


@pytest.mark.parametrize("family", [4, 6])
def test_no_service_takes_the_way_to_the_control_plane_and_the_others_frontends_stay(family: int) -> None:
    """A node that lost it could not even be told that the Service is gone."""
    host = bytes((198, 51, 100, 7)) if family == 4 else bytes(15) + b"\7"
    server = "198.51.100.7:53" if family == 4 else "[::7]:53"
    mirror, frontends = Mirror(), Frontends()
    resolver = Resolver(mirror, frontends)
    tcp = replace(DNS_PORT, protocol=6)
    thief = service("thief", OTHER_IP, port=tcp, external=(host,))
    if family == 6:
        thief = replace(thief, cluster_ips=(bytes(15) + b"\x63",))
    put_in_mirror(mirror, thief)
    (before,) = resolver.resolve([("ns", "thief")], VIEW)
    assert len(before.entries) == 2
    assert [key.name for key in frontends.reserve(WAYS, reserved(server))] == ["thief"]
    (after,) = resolver.resolve([("ns", "thief")], VIEW)
    assert [entry.frontend.kind for entry in after.entries] == [FrontendKind.CLUSTER_IP]
    (failed,) = resolver.failures()
    assert failed.text.endswith(f":53 is {WAYS}: choose another address or port")
    (again,) = resolver.resolve_all(VIEW)
    assert again == after
    assert [key.name for key in frontends.reserve(WAYS, ())] == ["thief"]
    assert resolver.resolve([("ns", "thief")], VIEW) == [before]


def test_the_port_of_the_control_plane_is_no_node_port() -> None:
    frontends = Frontends()
    frontends.reserve(WAYS, reserved("deltaplane.invalid:30053"))
    mirror = Mirror()
    port = replace(DNS_PORT, protocol=6, node_port=30053)
    put_in_mirror(mirror, replace(DNS, type=ServiceType.NODE_PORT, ports=(port,)))
    (found,) = Resolver(mirror, frontends).resolve([("kube-system", "dns")], VIEW)
    assert [entry.frontend.kind for entry in found.entries] == [FrontendKind.CLUSTER_IP]


@pytest.mark.parametrize("late", [False, True], ids=["the API server is known", "the Service was there first"])
def test_no_service_takes_the_api_servers_own_address(late: bool) -> None:
    mirror = Mirror()
    resolver = Resolver(mirror)
    thief = service("thief", OTHER_IP, port=ServicePort("", 6, 6443), external=(OUTSIDE,))
    ends = (EndpointPort("https", 6, 6443),), (Endpoint(OUTSIDE),)
    slice_ = EndpointSlice("default", "kubernetes", "kubernetes", 4, *ends)
    kernel = {}
    order: list[tuple[Object, tuple[str, str]]] = [(slice_, ("default", "kubernetes")), (thief, ("ns", "thief"))]
    for one, name in reversed(order) if late else order:
        put_in_mirror(mirror, one)
        kernel.update({found.key.name: found for found in resolver.resolve([name], VIEW)})
    assert {entry.frontend.address for entry in kernel["thief"].entries} == {OTHER_IP}
    (failed,) = resolver.failures()
    assert "where the API server of this cluster is" in failed.text


def test_the_api_servers_slices_take_no_clusterip_away() -> None:
    mirror = Mirror()
    resolver = Resolver(mirror)
    ends = (EndpointPort("https", 17, 53),), (Endpoint(DNS_IP),)
    put_in_mirror(mirror, DNS, EndpointSlice("default", "kubernetes", "kubernetes", 4, *ends))
    found = {each.key.name: each for each in resolver.resolve_all(VIEW)}
    assert [entry.frontend.address for entry in found["dns"].entries] == [DNS_IP]
    assert list(resolver.failures()) == []


async def test_a_name_that_does_not_resolve_keeps_what_it_had_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[frozenset[bytes]] = []
    twice = asyncio.Event()

    async def reserve(slots: frozenset[bytes]) -> None:
        told.append(slots)
        if len(told) == 2:
            twice.set()

    answers: list[list[str] | OSError] = [["192.0.2.1", "fe80::1%eth0"], OSError("no answer"), ["192.0.2.2"]]

    async def resolved(*_: object, **__: object) -> list[tuple[object, ...]]:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return [(0, 0, 0, "", (address, 0)) for address in answer]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolved)
    servers = Servers(["deltaplane.example:1", "[2001:db8::1]:2", "unix:///x"], reserve)
    await servers.begin()
    assert len(told[-1]) == 2 * 2 + 2 + 1
    task = asyncio.create_task(servers.run(0.001))
    await asyncio.wait_for(twice.wait(), 10)
    task.cancel()
    assert len(told[0] - told[1]) == 2
    assert len(told[1] - told[0]) == 1


def test_what_a_service_asks_for_is_what_it_resolves_to() -> None:
    for each in (
        DNS,
        EVIL,
        OLD,
        replace(OLD, type=ServiceType.NODE_PORT, ports=(replace(WEB, node_port=30080), DNS_PORT)),
    ):
        assert list(frontends_of(each)) == [entry.frontend for entry in resolve(each.key, each, (), VIEW).entries]


POOL = [
    service(f"s{number}", bytes((172, 30, 0, number)), port=port, external=external, created=created)
    for number in (1, 2, 3)
    for port in (DNS_PORT, WEB)
    for external in ((), (OUTSIDE,), (bytes((172, 30, 0, 1)),), (bytes((172, 30, 0, 2)), OUTSIDE))
    for created in (0, 1, 2)
]


@given(st.lists(st.sampled_from(POOL), max_size=12))
def test_what_was_asked_for_last_decides_and_not_the_way_there(changes: list[Service]) -> None:
    final = {each.key: each for each in changes}
    assert sorted(served(*changes)[1]) == sorted(served(*final.values())[1])
    assert served(*changes)[0] == served(*sorted(final.values(), key=lambda each: each.key))[0]


def test_slices_are_not_looked_at() -> None:
    """A slice of an unknown Service asks for nothing."""
    mirror = Mirror()
    put_in_mirror(mirror, EndpointSlice("ns", "x-1", "x", 4, (), ()))
    (found,) = Resolver(mirror).resolve([("ns", "x")], VIEW)
    assert found.entries == ()
