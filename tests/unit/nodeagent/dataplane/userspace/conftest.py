"""Redirects by either program, on machines in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.fakes.iptables.memory import MemoryIptables
from tests.fakes.nftables.memory import MemoryKernel
from tests.unit.nodeagent.dataplane.userspace.support import (
    LOCAL,
    Iptables,
    Make,
    Nft,
)


@pytest.fixture(params=["nft", "iptables"])
def make(request: pytest.FixtureRequest) -> Make:
    """The same machine's redirects, opened anew with every call."""
    if request.param == "nft":
        kernel = MemoryKernel()
        return lambda: Nft(LOCAL, kernel)
    tools = MemoryIptables()
    return lambda: Iptables(LOCAL, tools)


@pytest.fixture(autouse=True)
def _nothing_is_left_open() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "userspace-proxy"]
