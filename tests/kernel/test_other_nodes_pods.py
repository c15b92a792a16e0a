"""externalTrafficPolicy Local asked by a pod of another node, with real packets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from msgspec.structs import replace

from deltaplane.forwarding import Entry, Frontend, FrontendKind, Masquerade, ServiceForwarding, Verdict
from deltaplane.model import Kind, ObjectKey
from nodeagent.dataplane.api import Dataplane
from nodeagent.linux.iptables.programs import Flavour
from tests.kernel import iptables_support, nftables_support, userspace_support
from tests.kernel.nftables_support import node_addresses, packed, targets
from tools.lab.client import TIMEOUT, connect, many
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric, Node, Pod

pytestmark = pytest.mark.kernel

CONNECTIONS = 40
ADDRESSES = {4: "198.18.0.8", 6: "2001:db8:d::8"}
WAYS = pytest.mark.parametrize(
    "way", ["nftables", "iptables-nft", "iptables-legacy", "userspace-nft", "userspace-iptables-nft"]
)
BOTH = pytest.mark.parametrize("family", [4, 6])


@contextmanager
def serving(node: Node, way: str) -> Iterator[Dataplane]:
    """A dataplane of this kind on the node."""
    mode, _, rest = way.partition("-")
    with ExitStack() as stack:
        if mode == "nftables":
            yield stack.enter_context(nftables_support.dataplane(node.space))[0]
        elif mode == "iptables":
            stack.enter_context(iptables_support.cleaned(node.space))
            yield stack.enter_context(iptables_support.dataplane(node.space, Flavour(rest)))
        else:
            settings = replace(userspace_support.SETTINGS, redirect=rest)
            yield stack.enter_context(userspace_support.userspace(node.space, settings))


def web(node: Node, pods: list[Pod], family: int) -> ServiceForwarding:
    """A node port and an external address under policy Local; the endpoints on this node are its local ones."""
    here = targets([pod for pod in pods if pod.node == node.name], family)
    verdict = Verdict.FORWARD if here else Verdict.DROP
    fronts = (
        Frontend(FrontendKind.NODE_PORT, family, b"", 6, 30080),
        Frontend(FrontendKind.EXTERNAL_IP, family, packed(ADDRESSES[family]), 6, 80),
    )
    entries = tuple(
        Entry(front, "p", targets(pods, family), Verdict.FORWARD, Masquerade.NODE_ONLY, here, verdict)
        for front in fronts
    )
    return ServiceForwarding(ObjectKey(Kind.SERVICE, "default", "web"), entries)


@BOTH
@WAYS
def test_another_nodes_pod_reaches_the_endpoints_here_and_where_there_is_none_it_is_dropped(
    clean: Fabric, echo: EchoServers, way: str, family: int
) -> None:
    """C1, C3: the endpoint sees the pod; this node's own pods and this node reach all endpoints in both cases."""
    home, node, away = clean.nodes
    for pod in clean.pods:
        echo.start_pod(pod)
    other, own, outside = home.clients[0], node.clients[0], clean.outside[0]
    clean.route(f"{ADDRESSES[family]}/{32 if family == 4 else 128}", node)
    proxied = way.startswith("userspace")  # the agent itself connects to the endpoints
    with serving(node, way) as made:
        made.apply([web(node, clean.pods, family)], node_addresses(node), complete=True)
        for address, port in ((node.address(family), 30080), (ADDRESSES[family], 80)):
            answers = many(other.space, address, port, CONNECTIONS)
            assert answers.total() == CONNECTIONS
            assert set(answers) == {pod.name for pod in node.servers}
            seen = connect(other.space, address, port).seen
            assert (seen == other.address(family)) is not proxied
            answers = many(own.space, address, port, 4 * CONNECTIONS)
            assert set(answers) == {pod.name for pod in clean.pods}
            seen = connect(own.space, address, port).seen
            assert (seen == own.address(family)) is not proxied
        elsewhere = [*home.servers, *away.servers]
        made.apply([web(node, elsewhere, family)])
        for address, port in ((node.address(family), 30080), (ADDRESSES[family], 80)):
            for stranger in (other, outside):
                assert connect(stranger.space, address, port, timeout=0.3).kind == TIMEOUT
            for insider in (own.space, node.space):
                answers = many(insider, address, port, CONNECTIONS)
                assert answers.total() == CONNECTIONS
                assert set(answers) <= {pod.name for pod in elsewhere}
