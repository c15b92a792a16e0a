"""UDP clients that keep their source port, on real packets: they follow their Service, and nobody else is disturbed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing, contextmanager
from ipaddress import ip_network

import pytest
from msgspec.structs import replace

from deltaplane.forwarding import Frontend, FrontendKind, ServiceForwarding
from nodeagent.conntrack.cleaner import Cleaner, Swept
from nodeagent.conntrack.table import NetlinkTable
from nodeagent.dataplane.nftables.dataplane import NftablesDataplane
from tests.kernel.nftables_support import dataplane, entry, node_addresses, packed, targets
from tests.unit.nodeagent.conntrack.cases import key
from tools.lab.client import REFUSED, TIMEOUT, Connection, until
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric, Host, Node, Pod
from tools.lab.rules import run

BOTH = pytest.mark.parametrize("family", [4, 6])
NODE_PORT = 30053
BALANCER = {4: "198.18.0.53", 6: "2001:db8:1b::53"}


def vip(family: int) -> str:
    return "172.30.0.53" if family == 4 else "fd00:10:96::53"


def dns(family: int, pods: list[Pod], serving: list[Pod] | None = None, number: int = 17) -> ServiceForwarding:
    """A Service with a cluster IP and a node port; `serving`: whose flows may stay, if not only those of `pods`."""
    stay = targets(pods if serving is None else serving, family)
    entries = (
        entry(Frontend(FrontendKind.CLUSTER_IP, family, packed(vip(family)), number, 53), targets(pods, family)),
        entry(Frontend(FrontendKind.NODE_PORT, family, b"", number, NODE_PORT), targets(pods, family)),
    )
    return ServiceForwarding(key("dns"), tuple(replace(each, serving=stay) for each in entries))


class Machine:
    """A node's dataplane and cleaner, fed as the agent feeds them."""

    def __init__(self, node: Node, made: NftablesDataplane, cleaner: Cleaner, swept: list[Swept]) -> None:
        self.node, self.made, self.cleaner, self.swept = node, made, cleaner, swept

    def apply(self, *services: ServiceForwarding, complete: bool = False) -> None:
        node = node_addresses(self.node) if complete else None
        self.cleaner.want(services, node, complete=complete)
        done = self.made.apply(list(services), node, complete=complete)
        self.cleaner.commit({failed.key for failed in done.failed})
        self.cleaner.clean()
        assert not any(result.error for result in self.swept)


@contextmanager
def machine(node: Node) -> Iterator[Machine]:
    with node.space.entered():
        table = NetlinkTable()
    swept: list[Swept] = []
    with closing(table), dataplane(node.space) as (made, _):
        yield Machine(node, made, Cleaner(table, swept.append), swept)


def client(fabric: Fabric, node: Node, family: int, kind: str) -> Connection:
    """A UDP client of the cluster IP (from a pod) or of the node port (from outside)."""
    if kind == "cluster IP":
        return Connection(node.clients[0].space, vip(family), 53, "udp", timeout=1.0)
    return Connection(fabric.outside[0].space, node.address(family), NODE_PORT, "udp", timeout=1.0)


@BOTH
@pytest.mark.parametrize("kind", ["cluster IP", "node port"])
def test_a_client_that_keeps_its_port_follows_its_service(
    clean: Fabric, echo: EchoServers, family: int, kind: str
) -> None:
    """Moves to the new endpoint, is refused when there is none (J3), comes back; a deleted Service leaves nothing."""
    node, first, second = clean.nodes[0], clean.pods[0], clean.pods[2]
    for pod in (first, second):
        echo.start_pod(pod)
    with machine(node) as host, client(clean, node, family, kind) as flow:
        host.apply(dns(family, [first]), complete=True)
        assert flow.open().name == first.name
        host.apply(dns(family, [first, second]))
        assert flow.ask().name == first.name
        host.apply(dns(family, [second]))
        assert flow.ask().name == second.name
        host.apply(dns(family, []))
        assert flow.ask().kind == REFUSED
        host.apply(dns(family, [first]))
        assert flow.ask().name == first.name
        host.apply(ServiceForwarding(key("dns")))
        assert flow.ask().kind in (TIMEOUT, REFUSED)
        host.apply(dns(family, [second]))
        assert flow.ask().name == second.name


@BOTH
def test_a_flow_from_before_the_service_finds_it(clean: Fabric, echo: EchoServers, family: int) -> None:
    """J2: it was never translated, and would go nowhere for as long as it asks."""
    node, pod = clean.nodes[0], clean.pods[0]
    echo.start_pod(pod)
    with machine(node) as host, client(clean, node, family, "cluster IP") as flow:
        host.apply(complete=True)
        assert flow.open().kind == TIMEOUT
        host.apply(dns(family, [pod]))
        assert flow.ask().name == pod.name


@BOTH
def test_a_flow_stays_with_an_endpoint_that_still_serves(clean: Fabric, echo: EchoServers, family: int) -> None:
    """J2: terminating or passed over by policy, it gets no new flows and keeps its own."""
    node, leaving, staying = clean.nodes[0], clean.pods[0], clean.pods[2]
    for pod in (leaving, staying):
        echo.start_pod(pod)
    with machine(node) as host, client(clean, node, family, "cluster IP") as flow:
        host.apply(dns(family, [leaving]), complete=True)
        assert flow.open().name == leaving.name
        host.apply(dns(family, [staying], serving=[leaving, staying]))
        assert flow.ask().name == leaving.name
        with client(clean, node, family, "cluster IP") as fresh:
            assert fresh.open().name == staying.name
        host.apply(dns(family, [staying]))
        assert flow.ask().name == staying.name


@BOTH
def test_unrelated_flows_to_the_same_port_number_are_not_touched(clean: Fabric, echo: EchoServers, family: int) -> None:
    """J4: another machine behind this node serves on the number of a node port; its clients pass this node."""
    node, pod, other = clean.nodes[0], clean.pods[0], clean.nodes[0].servers[1]
    echo.start_pod(pod)
    echo.start_pod(other, NODE_PORT, ("udp", "tcp"))
    with (
        machine(node) as host,
        Connection(node.clients[0].space, other.address(family), NODE_PORT, "udp", timeout=1.0) as beside,
        client(clean, node, family, "node port") as flow,
    ):
        host.apply(dns(family, [pod]), complete=True)
        assert beside.open().name == other.name
        assert flow.open().name == pod.name
        before = entries_of(node, beside)
        assert before
        host.apply(dns(family, []))
        host.apply(ServiceForwarding(key("dns")))
        assert sum(result.deleted for result in host.swept) >= 1
        assert entries_of(node, beside) == before
        assert beside.ask().name == other.name


def entries_of(node: Node, flow: Connection) -> list[str]:
    """The ids of the tracked entries of a client's flow."""
    listed = [run(node.space, "conntrack", "-L", "-p", "udp", "-f", how, "-o", "id") for how in ("ipv4", "ipv6")]
    lines = [line for text in listed for line in text.splitlines()]
    return [line.split("id=")[1] for line in lines if f"sport={flow.local_port} " in line]


def balanced(family: int, pods: list[Pod], *ranges: str, number: int = 17) -> ServiceForwarding:
    """The same with a load balancer's address, open to clients in these ranges."""
    frontend = Frontend(FrontendKind.LOAD_BALANCER, family, packed(BALANCER[family]), number, 53)
    backends = targets(pods, family)
    guarded = replace(entry(frontend, backends), serving=backends, source_ranges=ranges)
    return ServiceForwarding(key("dns"), (*dns(family, pods, number=number).entries, guarded))


def alone(client: Host | Pod, family: int) -> str:
    """A range that has this client's address and no other."""
    return str(ip_network(client.address(family)))


@BOTH
def test_a_client_that_source_ranges_no_longer_have_is_not_served_on(
    clean: Fabric, echo: EchoServers, family: int
) -> None:
    """J9: it keeps its port and asks on; so do clients that are still in the ranges, and those of other frontends."""
    node, pod = clean.nodes[0], clean.pods[0]
    outside, inside = clean.outside[0], node.clients[0]
    echo.start_pod(pod)
    clean.route(str(ip_network(BALANCER[family])), node)
    both = alone(outside, family), alone(inside, family)

    def of(client: Host | Pod, to: str, port: int = 53) -> Connection:
        return Connection(client.space, to, port, "udp", timeout=1.0)

    with (
        machine(node) as host,
        of(outside, BALANCER[family]) as shut_out,
        of(inside, BALANCER[family]) as kept,
        of(inside, vip(family)) as cluster,
        of(outside, node.address(family), NODE_PORT) as node_port,
    ):
        host.apply(balanced(family, [pod], *both), complete=True)
        assert {flow.open().name for flow in (shut_out, kept, cluster, node_port)} == {pod.name}
        others = [entries_of(node, flow) for flow in (kept, cluster, node_port)]
        assert all(others)
        host.swept.clear()
        host.apply(balanced(family, [pod], both[1]))
        assert shut_out.ask().kind == TIMEOUT
        assert entries_of(node, shut_out) == []
        assert [flow.ask().name for flow in (kept, cluster, node_port)] == [pod.name] * 3
        assert [entries_of(node, flow) for flow in (kept, cluster, node_port)] == others
        assert sum(result.deleted for result in host.swept) == 1
        host.apply(balanced(family, [pod], *both))
        assert shut_out.ask().name == pod.name


@BOTH
def test_ranges_that_narrowed_while_no_agent_ran_count_from_its_start(
    clean: Fabric, echo: EchoServers, family: int
) -> None:
    """J9."""
    node, pod = clean.nodes[0], clean.pods[0]
    outside, inside = clean.outside[0], node.clients[0]
    echo.start_pod(pod)
    clean.route(str(ip_network(BALANCER[family])), node)
    with (
        Connection(outside.space, BALANCER[family], 53, "udp", timeout=1.0) as shut_out,
        Connection(inside.space, BALANCER[family], 53, "udp", timeout=1.0) as kept,
    ):
        with machine(node) as host:
            host.apply(balanced(family, [pod]), complete=True)
            assert {shut_out.open().name, kept.open().name} == {pod.name}
            before = entries_of(node, kept)
        with machine(node) as host:
            host.apply(balanced(family, [pod], alone(inside, family)), complete=True)
            assert shut_out.ask().kind == TIMEOUT
            assert kept.ask().name == pod.name
            assert entries_of(node, kept) == before


@BOTH
def test_tcp_connections_are_not_touched(clean: Fabric, echo: EchoServers, family: int) -> None:
    """J5: an established connection lives on, whatever becomes of its Service."""
    node, pod = clean.nodes[0], clean.pods[0]
    echo.start_pod(pod)
    with machine(node) as host, Connection(node.clients[0].space, vip(family), 53) as held:
        host.apply(dns(family, [pod], number=6), complete=True)
        assert held.open().name == pod.name
        host.apply(dns(family, [], number=6))
        host.apply(ServiceForwarding(key("dns")))
        assert held.ask().name == pod.name
        assert not any(result.deleted for result in host.swept)


@BOTH
def test_a_restart_keeps_flows_that_are_served_and_takes_those_that_are_not(
    clean: Fabric, echo: EchoServers, family: int
) -> None:
    node, first, second = clean.nodes[0], clean.pods[0], clean.pods[2]
    for pod in (first, second):
        echo.start_pod(pod)
    with client(clean, node, family, "cluster IP") as flow:
        with machine(node) as host:
            host.apply(dns(family, [first]), complete=True)
            assert flow.open().name == first.name
        with machine(node) as host:
            host.apply(dns(family, [first, second]), complete=True)
            assert flow.ask().name == first.name
            assert not any(result.deleted for result in host.swept)
        with machine(node) as host:
            host.apply(dns(family, [second]), complete=True)
            assert flow.ask().name == second.name


async def test_the_task_cleans_behind_the_commit(clean: Fabric, echo: EchoServers) -> None:
    """As the agent runs it: the commit does not wait, and the client has moved soon after."""
    node, first, second = clean.nodes[0], clean.pods[0], clean.pods[2]
    for pod in (first, second):
        echo.start_pod(pod)
    with machine(node) as host, client(clean, node, 4, "cluster IP") as flow:
        host.apply(dns(4, [first]), complete=True)
        assert flow.open().name == first.name
        task = asyncio.create_task(host.cleaner.run())
        host.cleaner.want([dns(4, [second])])
        host.made.apply([dns(4, [second])])
        host.cleaner.commit()
        await asyncio.to_thread(until, lambda: any(result.deleted for result in host.swept))
        assert flow.ask().name == second.name
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
