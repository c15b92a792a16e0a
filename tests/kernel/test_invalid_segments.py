"""A segment outside of the window, which conntrack calls INVALID and does not translate, ends no stream (I7)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from nodeagent.dataplane.nftables import program
from nodeagent.linux.iptables.programs import Flavour
from nodeagent.linux.nft.tables import listed
from tests.kernel import iptables_support, userspace_support
from tests.kernel.nftables_support import SETTINGS, dataplane, node_addresses
from tests.kernel.segments import FAR, tapped
from tests.kernel.test_nftables_packets import vip, web
from tools.lab.client import Connection
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric, Pod
from tools.lab.netns import Namespace

pytestmark = pytest.mark.kernel

BOTH = pytest.mark.parametrize("family", [4, 6])


@contextmanager
def liberal(space: Namespace, value: int) -> Iterator[None]:
    """nf_conntrack_tcp_be_liberal; it is 0 otherwise."""

    def put(number: int) -> None:
        with space.entered():
            Path("/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal").write_text(f"{number}\n")

    put(value)
    try:
        yield
    finally:
        put(0)


def outlives_a_segment_far_ahead(client: Namespace, to: tuple[str, int], pod: Pod, family: int) -> bool:
    """Whether a connection answers after its endpoint has said something far ahead, and nobody was reset."""
    with tapped(pod.space, family, 8080) as tap, Connection(client, *to) as stream:
        assert stream.open().answered
        tap.inject(list(tap.heard())[-1], pod.address(family))
        answered = stream.ask().answered
        return answered and not any(segment.reset for segment in tap.heard())


def clients(lab: Fabric, family: int) -> list[tuple[Namespace, tuple[str, int]]]:
    """Who asks and where: forwarded to a pod, delivered to the node itself, and masqueraded for who is outside."""
    node = lab.nodes[0]
    spaces = ((node.clients[0].space, (vip(family), 80)), (node.space, (vip(family), 80)))
    return [*spaces, (lab.outside[0].space, (node.address(family), 30080))]


@BOTH
@pytest.mark.parametrize("value", [0, 1])
def test_in_nftables_mode_the_stream_goes_on(clean: Fabric, echo: EchoServers, family: int, value: int) -> None:
    node, pod = clean.nodes[0], clean.nodes[1].servers[0]
    echo.start_pod(pod)
    with liberal(node.space, value), dataplane(node.space) as (made, _):
        made.apply([web(node, [pod], family)], node_addresses(node), complete=True)
        for client, to in clients(clean, family):
            assert outlives_a_segment_far_ahead(client, to, pod, family)


@BOTH
def test_in_nftables_mode_also_when_the_table_was_replaced_meanwhile(
    clean: Fabric, echo: EchoServers, family: int
) -> None:
    node, pod = clean.nodes[0], clean.nodes[1].servers[0]
    echo.start_pod(pod)
    with dataplane(node.space) as (made, kernel), tapped(pod.space, family, 8080) as tap:
        made.apply([web(node, [pod], family)], node_addresses(node), complete=True)
        with Connection(node.clients[0].space, vip(family), 80) as stream:
            assert stream.open().answered
            before = dict(listed(kernel, program.program(family, SETTINGS).table, program.TRANSLATED))
            made.configure(replace(SETTINGS, masquerade_bit=9))
            after = dict(listed(kernel, program.program(family, SETTINGS).table, program.TRANSLATED))
            assert len(before) == 1
            assert after == before
            tap.inject(list(tap.heard())[-1], pod.address(family))
            assert stream.ask().answered
            assert made.apply([web(node, [pod], family)], node_addresses(node), complete=True).messages == 0


@BOTH
def test_in_nftables_mode_invalid_packets_of_others_pass(clean: Fabric, echo: EchoServers, family: int) -> None:
    """As on a path of which this node sees one direction: who is no endpoint is not our matter."""
    node, pod = clean.nodes[0], clean.nodes[1].servers[0]
    client = node.clients[0].space
    echo.start_pod(pod)
    with dataplane(node.space) as (made, _), tapped(pod.space, family, 8080) as tap:
        made.apply([web(node, [clean.nodes[2].servers[0]], family)], node_addresses(node), complete=True)
        with Connection(client, pod.address(family), 8080) as stream:
            assert stream.open().answered
            with tapped(client, family, stream.local_port) as there:
                tap.inject(list(tap.heard())[-1], pod.address(family))
                assert [segment.length for segment in there.heard()] == [len(FAR)]


@BOTH
@iptables_support.FLAVOURS
def test_in_iptables_mode_the_stream_of_a_pod_goes_on(
    clean: Fabric, echo: EchoServers, family: int, flavour: Flavour
) -> None:
    node, pod = clean.nodes[0], clean.nodes[1].servers[0]
    echo.start_pod(pod)
    with iptables_support.cleaned(node.space), iptables_support.dataplane(node.space, flavour) as made:
        made.apply([web(node, [pod], family)], node_addresses(node), complete=True)
        assert outlives_a_segment_far_ahead(node.clients[0].space, (vip(family), 80), pod, family)


@BOTH
def test_in_userspace_mode_the_stream_goes_on(clean: Fabric, echo: EchoServers, family: int) -> None:
    """The node's own socket hears it, translated by nobody."""
    node, pod = clean.nodes[0], clean.nodes[1].servers[0]
    echo.start_pod(pod)
    with userspace_support.userspace(node.space) as made:
        made.apply([web(node, [pod], family)], node_addresses(node), complete=True)
        for client, to in clients(clean, family):
            assert outlives_a_segment_far_ahead(client, to, pod, family)
