"""The same objects to kube-proxy and to us: `iptables-save` lists the same, up to counters and order.

But for what we do otherwise under externalTrafficPolicy Local (`restated`): kube-proxy takes every pod for this node's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from deltaplane.model import ObjectKey
from deltaplane.resolve import NodeView, resolve
from nodeagent.dataplane.iptables.settings import Settings
from nodeagent.dataplane.outcome import Commit
from nodeagent.linux.iptables.programs import Flavour
from tests.flows.network import Network
from tests.flows.scenario import Step
from tests.flows.twin import twin
from tests.flows.world import World
from tests.kernel.iptables_reference import (
    CIDR,
    NODE,
    NODE_ADDRESS,
    empty,
    first,
    node,
    second,
    settled,
    start,
    there,
    write,
)
from tests.kernel.iptables_support import FLAVOURS, dataplane, tables
from tools.lab import netns
from tools.lab.apiserver import ApiServer
from tools.lab.client import until
from tools.lab.netns import Namespace
from tools.lab.parts import PartMissing
from tools.lab.rules import run

pytestmark = [pytest.mark.kernel, pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

SETTINGS = Settings((CIDR, twin(CIDR)))
AS_THEIRS = Settings((CIDR, twin(CIDR)), node_only=True)  # every pod is this node's
POD_CIDRS = ("10.180.0.0/24", twin("10.180.0.0/24"))
EVERYWHERE = NodeForwarding((), (4, 6), pod_cidrs=POD_CIDRS)
_POD_RULE = re.compile(r'(-A KUBE-EXT-\w+ -s )\S+( -m comment --comment "pod traffic .*)')
ADDRESSES = tuple(ip_address(text).packed for text in (NODE_ADDRESS, twin(NODE_ADDRESS)))
VIEW = NodeView(NODE, "", ADDRESSES)


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    made = Network()
    yield made
    made.close()


@pytest.fixture(scope="module")
def api(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    folder = tmp_path_factory.mktemp("api")
    try:
        made = ApiServer(network.machine("apiserver", "198.51.100.2"), folder)
    except PartMissing as missing:
        pytest.skip(str(missing))
    made.start()
    made.admin.apply_node(node())
    until(
        lambda: there(made, "Service") and there(made, "EndpointSlice"), 30, 0.1, lambda: "the API server's own Service"
    )
    yield made
    made.close()


@pytest.fixture
def ours() -> Iterator[Namespace]:
    made = netns.create("ours")
    run(made, "ip", "link", "set", "lo", "up")
    yield made
    netns.delete(made)


class Objects:
    """What the objects mean on the node, resolved as the agent does it. The API server's own Service is there too."""

    def __init__(self, api: ApiServer) -> None:
        self.world = World()
        self.take(Step(apply=(*there(api, "Service"), *there(api, "EndpointSlice"))))

    def take(self, step: Step) -> list[ServiceForwarding]:
        return [self._resolved(key) for key in sorted(self.world.apply(step))]

    def everything(self) -> list[ServiceForwarding]:
        return [self._resolved(key) for key in self.world.services()]

    def _resolved(self, key: ObjectKey) -> ServiceForwarding:
        return resolve(key, self.world.service(key), self.world.slices(key), VIEW)


def restated(lines: Iterable[str], family: int) -> list[str]:
    """kube-proxy's rules, but that a node's own pods are told by its pod CIDRs, as ours are."""
    own = rf"\g<1>{POD_CIDRS[0 if family == 4 else 1]}\2"
    return sorted(_POD_RULE.sub(own, line) for line in lines)


@FLAVOURS
def test_the_listings_are_the_same(
    network: Network, api: ApiServer, ours: Namespace, tmp_path: Path, flavour: Flavour
) -> None:
    objects = Objects(api)
    with start(api, network.node, tmp_path, flavour), dataplane(ours, flavour, SETTINGS) as made:
        made.apply(objects.everything(), EVERYWHERE, complete=True)
        for step in (first(), second()):
            write(api, step)
            assert not made.apply(objects.take(step)).failed
            theirs = settled(lambda: [tables(network.node, flavour, family) for family in (4, 6)])
            for family, expected in zip((4, 6), theirs, strict=True):
                found = tables(ours, flavour, family)
                for table, lines in expected.items():
                    same = restated(lines, family)
                    assert found[table] == same, f"IPv{family} {table}: {sorted(set(same) ^ set(found[table]))}"
            assert restated(theirs[0]["nat"], 4) != theirs[0]["nat"]
    _takes_over(network, objects, flavour)
    empty(api)


def _takes_over(network: Network, objects: Objects, flavour: Flavour) -> None:
    """What kube-proxy leaves behind is what we want: nothing is written but who is taken for a pod of this node."""
    with dataplane(network.node, flavour, AS_THEIRS) as made:
        assert made.adopted
        assert made.apply(objects.everything(), EVERYWHERE, complete=True) == Commit()
        before = [tables(network.node, flavour, family) for family in (4, 6)]
        assert not made.configure(SETTINGS).failed
        for family, lines in zip((4, 6), before, strict=True):
            after = tables(network.node, flavour, family)
            assert after == {table: restated(rules, family) for table, rules in lines.items()}
