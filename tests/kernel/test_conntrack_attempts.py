"""Clients that tried to connect before there was a Service, on real packets: they connect once there is one."""

from __future__ import annotations

import pytest

from deltaplane.forwarding import ServiceForwarding
from tests.kernel.test_conntrack_flows import BOTH, NODE_PORT, Machine, client, dns, machine, vip
from tools.lab.client import ANSWER, REFUSED, TIMEOUT, Connection, Outcome, connect
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric, Node
from tools.lab.netns import Namespace
from tools.lab.rules import run

TCP = 6
KINDS = pytest.mark.parametrize("kind", ["cluster IP", "cluster IP from the node", "node port"])
OWN_PORT = 45678
_NO_RESET = "table inet silent { chain out { type filter hook output priority -400; tcp flags & rst == rst drop; }; }"


def attempt(fabric: Fabric, node: Node, family: int, kind: str, timeout: float = 1.0) -> Outcome:
    """One more SYN, from the port that all of them come from."""
    space, address, port = where(fabric, node, family, kind)
    return connect(space, address, port, timeout=timeout, source=("", OWN_PORT))


def where(fabric: Fabric, node: Node, family: int, kind: str) -> tuple[Namespace, str, int]:
    if kind == "node port":
        return fabric.outside[0].space, node.address(family), NODE_PORT
    return (node.space if "node" in kind else node.clients[0].space), vip(family), 53


def silence(node: Node) -> None:
    """What the node has no listener for goes unanswered, as behind many a firewall; a reset would end the entry."""
    run(node.space, "nft", "-f", "-", stdin=_NO_RESET)


def waiting(node: Node) -> list[str]:
    """The tracked entries of connections that nobody answered."""
    listed = [run(node.space, "conntrack", "-L", "-p", "tcp", "-f", how) for how in ("ipv4", "ipv6")]
    return [line for text in listed for line in text.splitlines() if "SYN_SENT" in line and str(OWN_PORT) in line]


def tried_in_vain(fabric: Fabric, host: Machine, family: int, kind: str) -> None:
    silence(host.node)
    host.apply(complete=True)
    for _ in range(2):
        assert attempt(fabric, host.node, family, kind).kind == TIMEOUT
    assert len(waiting(host.node)) == 1


@BOTH
@KINDS
def test_a_client_whose_syns_began_before_the_service_connects_once_it_is_there(
    clean: Fabric, echo: EchoServers, family: int, kind: str
) -> None:
    """J2: the entry of its first SYN was never translated, and each further one would keep it alive."""
    node, pod = clean.nodes[0], clean.pods[0]
    echo.start_pod(pod)
    with machine(node) as host:
        tried_in_vain(clean, host, family, kind)
        host.apply(dns(family, [pod], number=TCP))
        assert attempt(clean, node, family, kind).name == pod.name
        assert sum(result.deleted for result in host.swept) == 1


@KINDS
def test_a_client_whose_syns_began_before_the_first_endpoint_connects_once_it_is_there(
    clean: Fabric, echo: EchoServers, kind: str
) -> None:
    """The refusal does not end the entry: it was there before."""
    node, pod = clean.nodes[0], clean.pods[0]
    echo.start_pod(pod)
    with machine(node) as host:
        tried_in_vain(clean, host, 4, kind)
        host.apply(dns(4, [], number=TCP))
        assert attempt(clean, node, 4, kind).kind != ANSWER
        host.apply(dns(4, [pod], number=TCP))
        assert attempt(clean, node, 4, kind).name == pod.name


@KINDS
def test_an_agent_that_starts_after_the_service_was_created_frees_its_clients(
    clean: Fabric, echo: EchoServers, kind: str
) -> None:
    node, pod = clean.nodes[0], clean.pods[0]
    echo.start_pod(pod)
    with machine(node) as host:
        tried_in_vain(clean, host, 4, kind)
    with machine(node) as host:
        host.apply(dns(4, [pod], number=TCP), complete=True)
        assert attempt(clean, node, 4, kind).name == pod.name


@BOTH
def test_a_udp_client_of_a_node_port_from_before_the_service_finds_it(
    clean: Fabric, echo: EchoServers, family: int
) -> None:
    """J2"""
    node, pod = clean.nodes[0], clean.pods[0]
    echo.start_pod(pod)
    with machine(node) as host, client(clean, node, family, "node port") as flow:
        host.apply(complete=True)
        assert flow.open().kind == REFUSED
        host.apply(dns(family, [pod]))
        assert flow.ask().name == pod.name


@BOTH
def test_connections_that_were_answered_without_a_service_stay(clean: Fabric, echo: EchoServers, family: int) -> None:
    """J5: to a listener of the node's own on what becomes a node port, or behind what becomes an external address."""
    node, pod, space = clean.nodes[0], clean.pods[0], clean.outside[0].space
    echo.start_pod(pod)
    echo.start(node.space, node.address(family), NODE_PORT, name="own")
    with machine(node) as host, Connection(space, node.address(family), NODE_PORT) as held:
        host.apply(complete=True)
        assert held.open().name == "own"
        host.apply(dns(family, [pod], number=TCP))
        assert held.ask().kind == ANSWER
        assert not any(result.deleted for result in host.swept)
        with Connection(space, node.address(family), NODE_PORT) as fresh:
            assert fresh.open().name == pod.name
        host.apply(ServiceForwarding(dns(family, []).key))
        assert held.ask().kind == ANSWER
