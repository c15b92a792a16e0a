"""Fixtures of the tests on a real two-node Kubernetes (`make test-cluster`); elsewhere they are skipped, saying why.

One cluster for all of them; each module brings the proxy that it tests, and takes it away.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.counted import SUMMARY, Counted
from tests.cluster.installed import Deltaplane
from tests.cluster.shop import Shop
from tools.lab.cluster import cluster as clusters
from tools.lab.cluster import product
from tools.lab.cluster.cluster import Cluster
from tools.lab.rules import wipe

NEXT = "deltaplane.dev/cluster/deltaplane:next"  # as tests/cluster/overlays/next has it
HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    said = "while restarts, upgrades, changes of mode and migrations go on: so many connections each"
    parser.addoption("--connections", type=int, default=0, metavar="N", help=said)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was counted, whether it passed or not."""
    for line in SUMMARY:
        terminalreporter.write_line(line)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    reason = clusters.unavailable() if "cluster" in config.option.markexpr else "takes minutes: make test-cluster"
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(1800))
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Two nodes, Ready, without a proxy. Their containerd has Deltaplane's image, under two tags."""
    with clusters.running([product.made(), product.made(NEXT)]) as running:
        yield running


@pytest.fixture(scope="session")
def shop(cluster: Cluster) -> Shop:
    """Deployments and client Pods on both nodes."""
    shop = Shop(cluster)
    shop.open()
    return shop


@pytest.fixture(scope="session")
def counted(shop: Shop, request: pytest.FixtureRequest) -> Counted:
    """Clients of the shop, and how many connections."""
    return Counted(shop, request.config.getoption("connections", 0))


@pytest.fixture(scope="module")
def deltaplane(cluster: Cluster) -> Iterator[Deltaplane]:
    """Installed by `kubectl apply -k` on nodes without another proxy, ready on both."""
    for place in cluster.fabric.nodes:
        wipe(place.space)
    installed = Deltaplane(cluster)
    installed.apply("nftables")
    yield installed
    installed.delete()
