"""Session affinity with real packets: clients stay where they are, whatever happens to others (H1 to H6)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from deltaplane.forwarding import Frontend, FrontendKind, ServiceForwarding
from deltaplane.model import Kind, ObjectKey
from nodeagent.linux.nft import elements
from nodeagent.linux.nft.transaction import Batch
from tests.kernel.nftables_support import dataplane, entry, hairpins, nft, node_addresses, packed, targets
from tools.lab.client import connect, many, until
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric, Node, Pod
from tools.lab.netns import Namespace

pytestmark = pytest.mark.kernel

BOTH = pytest.mark.parametrize("family", [4, 6])
PROTOCOLS = pytest.mark.parametrize(("protocol", "number"), [("tcp", 6), ("udp", 17)])


def vip(family: int, last: int = 1) -> str:
    return f"172.30.0.{last}" if family == 4 else f"fd00:10:96::{last}"


def sticky(
    node: Node, pods: list[Pod], family: int, number: int = 6, *, seconds: int = 10800, last: int = 1
) -> ServiceForwarding:
    """A Service with session affinity, a cluster IP on port 80 and a node port."""
    backends = targets(pods, family)
    frontends = (
        Frontend(FrontendKind.CLUSTER_IP, family, packed(vip(family, last)), number, 80),
        Frontend(FrontendKind.NODE_PORT, family, b"", number, 30080 + last),
    )
    entries = tuple(replace(entry(frontend, backends), affinity_seconds=seconds) for frontend in frontends)
    key = ObjectKey(Kind.SERVICE, "default", f"web{last}")
    return ServiceForwarding(key, entries, hairpins(node, family, number) if backends else ())


def sole(space: Namespace, address: str, port: int, protocol: str = "tcp", count: int = 25) -> str:
    """The one server that answers all of these connections."""
    (name,) = many(space, address, port, count, protocol)
    return name


@BOTH
@PROTOCOLS
def test_a_client_stays_over_all_addresses_of_a_port(
    clean: Fabric, echo: EchoServers, family: int, protocol: str, number: int
) -> None:
    node, pods = clean.nodes[0], clean.pods
    for pod in pods:
        echo.start_pod(pod)
    with dataplane(node.space) as (made, _):
        services = [sticky(node, pods, family, number, last=last) for last in range(1, 9)]
        made.apply(services, node_addresses(node), complete=True)
        chosen = set()
        for space in (node.clients[0].space, node.space):
            for last in range(1, 9):
                name = sole(space, vip(family, last), 80, protocol)
                assert name == sole(space, node.address(family), 30080 + last, protocol)
                chosen.add(name)
        assert len(chosen) > 1  # a port's clients do not bind those of another: 16 choices of 6


@BOTH
def test_only_the_clients_of_a_lost_endpoint_move_and_at_once(clean: Fabric, echo: EchoServers, family: int) -> None:
    node, pods = clean.nodes[0], clean.pods
    for pod in pods:
        echo.start_pod(pod)
    with dataplane(node.space) as (made, kernel):
        made.apply([sticky(node, pods, family)], node_addresses(node), complete=True)
        spaces = [host.space for host in (*clean.outside, node.clients[0])] + [node.space]
        ask = {space: (node.address(family), 30081) for space in spaces}
        names = {space: sole(space, *ask[space]) for space in spaces}
        present = list(pods)
        for gone in pods[:4]:
            present.remove(gone)
            listings = kernel.listings
            commit = made.apply([sticky(node, present, family)])
            assert commit.messages <= (50 if len(present) in (4, 2) else 9)  # at a power of two, chains are exchanged
            assert kernel.listings == listings
            for space in spaces:
                name = sole(space, *ask[space])
                assert name != gone.name
                assert name == names[space] or names[space] == gone.name
                names[space] = name
        commit = made.apply([sticky(node, pods, family)])
        assert {space: sole(space, *ask[space]) for space in spaces} == names


def test_an_endpoint_of_many_costs_a_fixed_number_of_messages(clean: Fabric) -> None:
    node = clean.nodes[0]
    with dataplane(node.space) as (made, kernel):
        for many_pods in (10, 1000):
            backends = tuple((packed(f"10.181.{n >> 8}.{n & 255}"), 8080) for n in range(many_pods))
            frontend = Frontend(FrontendKind.CLUSTER_IP, 4, packed(vip(4)), 6, 80)
            whole = replace(entry(frontend, backends), affinity_seconds=60)  # type: ignore[arg-type]
            key = ObjectKey(Kind.SERVICE, "default", "big")
            made.apply([ServiceForwarding(key, (whole,))], node_addresses(node), complete=True)
            listings = kernel.listings
            commit = made.apply([ServiceForwarding(key, (replace(whole, targets=whole.targets[:-1]),))])
            assert (commit.messages, commit.elements) == (4, 2)
            commit = made.apply([ServiceForwarding(key, (replace(whole, targets=whole.targets[1:]),))])
            assert (commit.messages, commit.elements) == (6, 4)
            assert kernel.listings == listings


@BOTH
def test_a_restart_and_a_scaling_keep_every_client(clean: Fabric, echo: EchoServers, family: int) -> None:
    """Also over powers of two, where chains are exchanged."""
    node, pods = clean.nodes[0], clean.pods
    for pod in pods:
        echo.start_pod(pod)
    client, address = node.clients[0].space, vip(family)
    with dataplane(node.space) as (made, _):
        made.apply([sticky(node, pods[:3], family)], node_addresses(node), complete=True)
        name = sole(client, address, 80)
        keep = next(pod for pod in pods if pod.name == name)
    with dataplane(node.space) as (made, kernel):
        made.apply([sticky(node, pods[:3], family)], node_addresses(node), complete=True)
        assert kernel.transactions == 0
        for some in (pods, [keep], pods[:5] if keep in pods[:5] else pods, pods):
            made.apply([sticky(node, some, family)])
            assert sole(client, address, 80) == name


@BOTH
def test_a_client_is_forgotten_after_its_time_and_with_the_service(
    clean: Fabric, echo: EchoServers, family: int
) -> None:
    node, pods, address = clean.nodes[0], clean.pods, vip(family)
    for pod in pods:
        echo.start_pod(pod)
    client = node.clients[0].space
    with dataplane(node.space) as (made, _):
        made.apply([sticky(node, pods, family, seconds=1)], node_addresses(node), complete=True)
        name = connect(client, address, 80).name
        until(lambda: connect(client, address, 80).name != name, timeout=30, pause=1.3)
        plain = replace(sticky(node, pods, family), entries=())
        made.apply([plain])
        assert "affinity/" not in nft(node.space, "list", "ruleset")


@BOTH
def test_clients_beyond_what_the_kernel_remembers_are_served(clean: Fabric, echo: EchoServers, family: int) -> None:
    node, pods, address = clean.nodes[0], clean.pods, vip(family)
    for pod in pods:
        echo.start_pod(pod)
    with dataplane(node.space) as (made, kernel):
        made.apply([sticky(node, pods, family)], node_addresses(node), complete=True)
        bound = sole(node.space, address, 80)
        batch, width = Batch("deltaplane", 1), 4 if family == 4 else 16
        strangers = [elements.pair((0x0A_FF << 112 | n).to_bytes(16, "big")[-width:], bytes(4)) for n in range(65_534)]
        batch.fill(family, "affinity/default/web1/p/tcp", strangers)
        assert kernel.commit(batch.data(), batch.first, batch.last) == []
        client = node.clients[0].space
        assert sum(many(client, address, 80, 100).values()) == 100
        last = many(clean.outside[0].space, node.address(family), 30081, 100)
        assert last.keys() <= {pod.name for pod in pods}
        assert len(last) > 1
        assert sole(node.space, address, 80) == bound


@BOTH
def test_affinity_switched_on_and_off_while_connections_come(clean: Fabric, echo: EchoServers, family: int) -> None:
    node, pods, address = clean.nodes[0], clean.pods, vip(family)
    for pod in pods:
        echo.start_pod(pod)
    client = node.clients[0].space
    with dataplane(node.space) as (made, _):
        for seconds in (0, 10800, 0, 60):
            made.apply([sticky(node, pods, family, seconds=seconds)], node_addresses(node))
            found = many(client, address, 80, 100)
            assert found.keys() <= {pod.name for pod in pods}
            assert (len(found) == 1) is bool(seconds)
