"""Service CIDRs that overlap those before them, on the real kernel: it would take an end away that two ranges share."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import pytest
from msgspec.structs import replace

from nodeagent.dataplane.nftables import writer
from nodeagent.dataplane.set_members import SERVICE_CIDRS
from nodeagent.linux.nft.ranges import merged, paired
from tests.kernel.nftables_support import dataplane
from tests.unit.nodeagent.dataplane.nftables.test_ranges_in_parts import CIDRS
from tests.unit.nodeagent.dataplane.nftables.walks import NODE, STATES
from tools.lab import netns
from tools.lab.netns import Namespace

pytestmark = pytest.mark.kernel


@pytest.fixture
def space() -> Iterator[Namespace]:
    made = netns.create("ranges")
    yield made
    netns.delete(made)


def test_a_range_becomes_another_in_several_transactions(monkeypatch: pytest.MonkeyPatch, space: Namespace) -> None:
    monkeypatch.setattr(writer, "PER_BATCH", 1)
    with dataplane(space) as (made, _):
        made.apply(STATES["one endpoint"], NODE, complete=True)
        for cidr in (cidr for pair in permutations(CIDRS, 2) for cidr in pair):
            assert made.apply((), replace(NODE, service_cidrs=(cidr,))).failed == ()
            bounds = made.dump()[6 if ":" in cidr else 4][SERVICE_CIDRS]
            ends = [key for key, kind in bounds.items() if kind == b"end"]
            assert paired(bounds.keys() - set(ends), ends) == list(merged([cidr])), cidr
            assert len(ends) == len(bounds) - len(ends) == 1
