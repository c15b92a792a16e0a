"""The short form, on the kernel in memory and on the real one."""

from __future__ import annotations

import os
import sys

import pytest

from nodeagent.linux.nft.kernel import NetlinkKernel
from tests.soak.driver import driving, in_memory, run
from tools.lab import netns
from tools.lab.rules import delete_tables


@pytest.mark.parametrize("seed", [1, 2])
def test_any_sequence_ends_in_the_last_input(seed: int) -> None:
    with in_memory(seed) as driver:
        assert run(driver, 600, every=100) == []


@pytest.mark.kernel
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="network namespaces need root on Linux")
def test_the_real_kernel_holds_the_last_input() -> None:
    """20,000 operations; every 100, all sets are read back and compared."""
    space = netns.create("soak", netns.PREFIX)
    try:

        def connect() -> NetlinkKernel:
            with space.entered():
                return NetlinkKernel()

        with driving(3, connect, lambda: delete_tables([space])) as driver:
            assert run(driver, 20_000, every=100) == []
    finally:
        netns.delete(space)
