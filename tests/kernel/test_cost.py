"""What one change costs, counted and not timed: the same few messages and bytes whatever the size of the cluster.

Messages are counted where they leave for the kernel; the stream's bytes go in as an agent receives them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from bench import cluster
from nodeagent.agent import Agent
from nodeagent.dataplane.nftables.dataplane import NftablesDataplane
from nodeagent.dataplane.nftables.program import Settings
from nodeagent.linux.netlink import wire
from nodeagent.linux.nft.kernel import Kernel, NetlinkKernel
from nodeagent.node.node_info import NodeInfo
from tests.fakes.nftables.memory import MemoryKernel
from tools.lab import netns

CHANGES = 12  # removed, added, replaced, ... : each in another Service
SMALL, LARGE = 100, 10_000


class Edge:
    """The way to a kernel, with everything that passes."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.sent: list[bytes] = []
        self.listings = 0

    def commit(self, batch: bytes, first: int, last: int) -> list[wire.Reply]:
        self.sent.append(batch)
        return self._kernel.commit(batch, first, last)

    def ask(self, request: bytes) -> Iterator[wire.Message]:
        self.listings += 1
        return self._kernel.ask(request)

    def has(self, family: int) -> bool:
        return self._kernel.has(family)

    def close(self) -> None:
        self._kernel.close()


@pytest.fixture(params=["memory", "netlink"])
def kernels(request: pytest.FixtureRequest) -> Iterator[list[Kernel]]:
    """Two empty kernels: one for a small cluster, one for a large."""
    if request.param == "memory":
        yield [MemoryKernel(), MemoryKernel()]
        return
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("network namespaces need root on Linux")
    spaces = [netns.create(f"cost-{size}") for size in (SMALL, LARGE)]
    found: list[Kernel] = []
    try:
        for space in spaces:
            with space.entered():
                found.append(NetlinkKernel())
        yield found
    finally:
        for kernel in found:
            kernel.close()
        for space in spaces:
            netns.delete(space)


def costs(kernel: Kernel, services: int) -> list[tuple[int, int]]:
    """Messages and bytes of each of CHANGES changes, after a cluster of this size is loaded."""
    replica, edge = cluster.Replica(services, 10), Edge(kernel)
    dataplane = NftablesDataplane(edge, Settings(cluster_cidrs=cluster.CLUSTER_CIDRS))
    dataplane.start()
    agent = Agent(NodeInfo(cluster.NODE), dataplane)
    agent.connected(0.0)
    for message in replica.beginning():
        agent.received(message, 0.0)
    assert agent.complete
    edge.listings, found = 0, []
    for _ in range(CHANGES):
        edge.sent.clear()
        agent.received(replica.change(), 1.0)
        (batch,) = edge.sent
        found.append((len(list(wire.messages(batch))), len(batch)))
    assert edge.listings == 0, "a table was listed in the steady state"
    assert not dataplane.pending()
    agent.close()
    return found


def test_a_change_of_one_endpoint_costs_the_same_few_messages_in_a_cluster_of_any_size(kernels: list[Kernel]) -> None:
    small, large = costs(kernels[0], SMALL), costs(kernels[1], LARGE)
    assert small == large
    assert max(messages for messages, _ in large) < 10
    assert max(size for _, size in large) < 1_000


def test_a_state_that_comes_a_second_time_writes_nothing(kernels: list[Kernel]) -> None:
    edge = Edge(kernels[0])
    replica = cluster.Replica(SMALL, 10)
    dataplane = NftablesDataplane(edge, Settings(cluster_cidrs=cluster.CLUSTER_CIDRS))
    dataplane.start()
    agent = Agent(NodeInfo(cluster.NODE), dataplane)
    agent.connected(0.0)
    beginning = replica.beginning()
    for message in beginning:
        agent.received(message, 0.0)
    edge.sent.clear()
    for message in beginning[1:]:
        agent.received(message, 1.0)  # the same state once more
    assert edge.sent == []
    agent.close()
