"""The agent between a replica and a kernel in memory: what a delta means for this node is in the tables afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from msgspec.structs import replace

from controlplane.facts import Fact
from deltaplane.model import Endpoint, EndpointPort, EndpointSlice, Node, Object, Service, ServicePort, ServiceType
from nodeagent.dataplane.nftables import program
from nodeagent.dataplane.nftables.listing import Dump
from nodeagent.dataplane.outcome import Failed
from nodeagent.dataplane.set_members import CLUSTER_IPS
from tests.fakes.nftables.memory import MemoryKernel
from tests.soak.objects import HERE
from tests.soak.trouble import Trouble
from tests.soak.world import World, ticking

OWN = Node(HERE, "uid", (bytes((192, 0, 2, 1)),), "a")
GONE, STAYS = (
    Service("ns", name, ServiceType.NODE_PORT, (bytes((10, 96, 0, number)),), (ServicePort("", 6, 80, 30000 + number),))
    for number, name in enumerate(("gone", "stays"), 1)
)
ENDPOINTS = (
    Endpoint(bytes((10, 244, 1, 1)), 3, HERE, "a", ("a",)),
    Endpoint(bytes((10, 244, 1, 2)), 3, "n2", "b", ("b",)),
)
SLICES = [
    EndpointSlice("ns", f"{service.name}-1", service.name, 4, (EndpointPort("", 6, 8080),), ENDPOINTS)
    for service in (GONE, STAYS)
]
OBJECTS: list[Object] = [OWN, GONE, STAYS, *SLICES]
MOVES = {"zone": replace(OWN, zone="b"), "address": replace(OWN, addresses=(bytes((192, 0, 2, 2)),))}


@contextmanager
def served() -> Iterator[World]:
    """Both Services are in the kernel."""
    kernel = MemoryKernel()
    made = World(lambda: kernel, kernel.tables.clear)
    with ticking(made):
        made.put(*(Fact(item.key, item) for item in OBJECTS))
        made.settle()
        yield made
    made.agent.close()


@pytest.fixture
def world() -> Iterator[World]:
    with served() as made:
        yield made


def tables(world: World) -> Dump:
    """What the kernel has for IPv4."""
    return world.dataplane.dump()[4]


@pytest.mark.parametrize("moved", MOVES.values(), ids=MOVES)
def test_a_service_that_goes_as_this_node_changes_leaves_the_kernel(world: World, moved: Node) -> None:
    """One delta with both: every Service is resolved anew, and those that are gone with them."""
    assert len(tables(world)[program.SERVICE_IPS]) == 2
    head = world.replica.log.head

    world.put(Fact(OWN.key, moved), Fact(GONE.key, None))
    world.settle()

    assert world.replica.log.head == head + 1
    assert list(tables(world)[CLUSTER_IPS]) == [STAYS.cluster_ips[0]]
    assert len(tables(world)[program.SERVICE_IPS]) == len(tables(world)[program.SERVICE_NODEPORTS]) == 1
    assert world.differences() == []


@pytest.mark.parametrize("moved", MOVES.values(), ids=MOVES)
def test_a_change_of_this_node_reaches_every_service(world: World, moved: Node) -> None:
    before = tables(world)

    world.put(Fact(OWN.key, moved))
    world.settle()

    assert tables(world) != before
    assert world.differences() == []


class Heard:
    """A commit hook that counts."""

    def __init__(self) -> None:
        self.commits = self.refusals = 0

    def want(self, *_: object, **__: object) -> None:
        """Whatever it is."""

    def committed(self, *_: object) -> None:
        self.commits += 1

    def refused(self) -> None:
        self.refusals += 1

    def failures(self) -> tuple[Failed, ...]:
        return ()


def test_whoever_follows_commits_hears_of_every_success_in_whatever_way_it_came(world: World) -> None:
    """A change, another try at what was refused, and a repair: /healthz and the cleaner go by what they hear."""
    heard = Heard()
    world.agent._programmer._hooks = (heard,)
    world.put(Fact(GONE.key, None))
    world.settle()
    assert (heard.commits, heard.refusals) == (1, 0)

    world.troubles.waiting = [Trouble.FORBIDDEN]
    world.put(Fact(GONE.key, GONE))
    while not heard.refusals:
        world.step(0.1)
    world.settle()
    assert (heard.commits, heard.refusals) == (2, 1)

    world.agent._programmer.drifted = True
    world.agent.tick(world.clock.now)
    assert (heard.commits, heard.refusals) == (3, 1)
