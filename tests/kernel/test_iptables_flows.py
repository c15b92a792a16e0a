"""UDP flows of a Service that was deleted while no agent ran, beside real chains of both flavours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from deltaplane.forwarding import ServiceForwarding
from nodeagent.conntrack.cleaner import Cleaner
from nodeagent.conntrack.table import NetlinkTable
from nodeagent.dataplane.commit_hooks import Flows, Wanted
from nodeagent.linux.iptables.programs import Flavour
from tests.kernel.iptables_support import FLAVOURS, cleaned, dataplane
from tests.kernel.nftables_support import node_addresses
from tests.kernel.test_conntrack_attempts import attempt, silence
from tests.kernel.test_conntrack_flows import client, dns, entries_of
from tools.lab.client import TIMEOUT
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric, Node

pytestmark = pytest.mark.kernel


@pytest.fixture
def node(clean: Fabric) -> Iterator[Node]:
    with cleaned(clean.nodes[0].space):
        yield clean.nodes[0]


def start(node: Node, flavour: Flavour, *services: ServiceForwarding) -> None:
    """An agent starts, hears of these Services, cleans, and ends."""
    with node.space.entered():
        table = NetlinkTable()
    swept: list[str] = []
    with closing(table), dataplane(node.space, flavour) as made:
        flows = Flows(cleaner := Cleaner(table, lambda result: swept.append(result.error)))
        flows.adopt(made)
        flows.want(Wanted(services, node_addresses(node), complete=True))
        with node.space.entered():
            flows.committed(made.apply(services, node_addresses(node), complete=True), 0.0)
        cleaner.clean()
    assert not any(swept)


@FLAVOURS
@pytest.mark.parametrize("kind", ["cluster IP", "node port"])
def test_they_go_at_the_start_and_not_before(
    node: Node, clean: Fabric, echo: EchoServers, flavour: Flavour, kind: str
) -> None:
    """J3; a restart that finds its Service again leaves its flow alone."""
    pod = clean.pods[0]
    echo.start_pod(pod)
    for family in (4, 6):
        start(node, flavour, dns(family, [pod]))
        with client(clean, node, family, kind) as flow:
            assert flow.open().name == pod.name
            before = entries_of(node, flow)
            assert before
            start(node, flavour, dns(family, [pod]))
            assert entries_of(node, flow) == before
            start(node, flavour)
            assert entries_of(node, flow) == []


@FLAVOURS
@pytest.mark.parametrize("kind", ["cluster IP", "node port"])
def test_a_client_whose_syns_began_before_the_service_connects_once_it_is_there(
    node: Node, clean: Fabric, echo: EchoServers, flavour: Flavour, kind: str
) -> None:
    """J2"""
    pod = clean.pods[0]
    echo.start_pod(pod)
    silence(node)
    for family in (4, 6):
        start(node, flavour)
        assert attempt(clean, node, family, kind).kind == TIMEOUT
        start(node, flavour, dns(family, [pod], number=6))
        assert attempt(clean, node, family, kind).name == pod.name
