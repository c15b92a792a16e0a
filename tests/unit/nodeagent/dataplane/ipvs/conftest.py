"""The kernel in memory for every module node."""

from __future__ import annotations

import pytest

from tests.fakes.ipvs.memory import MemoryKernel
from tests.unit.nodeagent.dataplane.ipvs.cases import NODE_ADDRESSES, packed


@pytest.fixture
def kernel() -> MemoryKernel:
    return MemoryKernel(addresses=[packed(text) for text in NODE_ADDRESSES])
