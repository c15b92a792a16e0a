"""Service CIDRs that change over several transactions: what overlaps never stands in the kernel together."""

from __future__ import annotations

from itertools import permutations

import pytest
from msgspec.structs import replace

from nodeagent.dataplane.nftables import writer
from nodeagent.dataplane.nftables.dataplane import NftablesDataplane
from tests.fakes.nftables.memory import MemoryKernel
from tests.soak.canonical import canonical, differences
from tests.unit.nodeagent.dataplane.nftables.walks import NODE, SETTINGS, STATES

CIDRS = ("10.96.0.0/16", "10.97.0.0/16", "10.96.0.0/15", "10.96.0.0/20", "10.0.0.0/8", "fd00:96::/112", "fd00::/64")


def started() -> NftablesDataplane:
    made = NftablesDataplane(MemoryKernel(), SETTINGS)
    made.start()
    return made


@pytest.mark.parametrize(("before", "after"), list(permutations(CIDRS, 2)))
def test_a_range_becomes_another(monkeypatch: pytest.MonkeyPatch, before: str, after: str) -> None:
    """Had the new one come first, deleting the old one would take an end of it along, and it would have none."""
    node = replace(NODE, service_cidrs=(after,))
    dataplane, fresh = started(), started()
    fresh.apply(STATES["two services"], node, complete=True)
    dataplane.apply(STATES["one endpoint"], replace(NODE, service_cidrs=(before,)), complete=True)
    monkeypatch.setattr(writer, "PER_BATCH", 1)  # as when much else changes too

    assert dataplane.apply(STATES["two services"], node, complete=True).failed == ()

    assert not list(differences(canonical(dataplane.dump()), canonical(fresh.dump())))
