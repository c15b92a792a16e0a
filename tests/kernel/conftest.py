"""Fixtures of the kernel tests: the network is built once per run, every test gets it without rules or servers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.lab import fabric as fabrics
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric
from tools.lab.rules import delete_tables


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.kernel)


@pytest.fixture(scope="session")
def lab() -> Iterator[Fabric]:
    """Three nodes in three zones, two server pods and a client pod each, two clients outside: tools/lab/fabric.py."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("network namespaces need root on Linux")
    with fabrics.running() as fabric:
        yield fabric


@pytest.fixture
def echo(lab: Fabric) -> Iterator[EchoServers]:
    """Echo servers that end with the test; none is started yet (see `EchoServers.start_pod`)."""
    servers = EchoServers()
    yield servers
    servers.close()


@pytest.fixture
def clean(lab: Fabric) -> Iterator[Fabric]:
    """The network with no nftables table and no tracked connection on any node, before and after the test."""
    delete_tables(node.space for node in lab.nodes)
    yield lab
    delete_tables(node.space for node in lab.nodes)
