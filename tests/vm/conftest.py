"""Fixtures of the tests that run inside the guest (`make test-vm`); elsewhere they are skipped, with the reason."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.ipvs_support import wipe
from tools.guest import machine
from tools.lab import fabric as fabrics
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric, Node, Topology


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = "" if machine.inside() else "runs inside the guest: make test-vm"
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.vm)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A failure is said at once: what comes at the end is lost where the guest's time is over before."""
    if report.failed:
        print(f"\nFAILED {report.nodeid}\n{report.longreprtext[-2000:]}", file=sys.__stderr__)


@pytest.fixture(scope="session")
def lab() -> Iterator[Fabric]:
    """Two nodes, two server pods and a client pod each, one client outside."""
    with fabrics.running(Topology(nodes=2, servers=2, clients=1, outside=1)) as fabric:
        yield fabric


@pytest.fixture
def echo(lab: Fabric) -> Iterator[EchoServers]:
    """Echo servers that end with the test; none is started yet."""
    servers = EchoServers()
    yield servers
    servers.close()


@pytest.fixture(scope="session")
def serving(lab: Fabric) -> Iterator[EchoServers]:
    """Every server pod answers on 8080 over every protocol."""
    servers = EchoServers()
    for pod in lab.pods:
        servers.start_pod(pod, protocols=("tcp", "udp", "sctp"))
    yield servers
    servers.close()


@pytest.fixture
def node(lab: Fabric) -> Node:
    """The first node, without anything of any mode."""
    wipe(lab.nodes[0].space)
    return lab.nodes[0]
