"""A transaction that had no answer: it may have been done, so the tables are read before anything more is written."""

from __future__ import annotations

import pytest

from nodeagent.dataplane.nftables.dataplane import NftablesDataplane
from nodeagent.dataplane.nftables.program import program
from nodeagent.errors import KernelUnavailable
from tests.fakes.nftables.memory import MemoryKernel
from tests.soak.canonical import structure
from tests.soak.trouble import Trouble, TroubledKernel, Troubles
from tests.unit.nodeagent.dataplane.nftables.walks import NODE, SETTINGS, STATES, expected, seen

PROGRAMS = [program(family, SETTINGS) for family in (4, 6)]
LAST = "two services"


@pytest.fixture
def troubles() -> Troubles:
    return Troubles()


@pytest.fixture
def kernel() -> MemoryKernel:
    return MemoryKernel()


@pytest.fixture
def dataplane(kernel: MemoryKernel, troubles: Troubles) -> NftablesDataplane:
    made = NftablesDataplane(TroubledKernel(kernel, troubles), SETTINGS)
    made.start()
    return made


def fresh() -> MemoryKernel:
    kernel = MemoryKernel()
    made = NftablesDataplane(kernel, SETTINGS)
    made.start()
    made.apply(STATES[LAST], NODE, complete=True)
    return kernel


@pytest.mark.parametrize("trouble", [Trouble.UNANSWERED, Trouble.LOST], ids=lambda trouble: trouble.name)
@pytest.mark.parametrize("state", [name for name in STATES if name != LAST])
def test_the_wish_changes_before_the_next_try(
    dataplane: NftablesDataplane, troubles: Troubles, state: str, trouble: Trouble
) -> None:
    """What the kernel took without saying so, and nobody wants any more, leaves it."""
    dataplane.apply(STATES[LAST], NODE, complete=True)
    troubles.waiting = [trouble]
    with pytest.raises(KernelUnavailable):
        dataplane.apply(STATES[state], complete=True)

    dataplane.apply(STATES[LAST], complete=True)

    assert seen(dataplane.dump()) == expected(STATES[LAST], NODE)
    assert not dataplane.pending()


@pytest.mark.parametrize("before", [Trouble.UNANSWERED, Trouble.LOST], ids=lambda trouble: trouble.name)
def test_a_table_is_not_installed_twice(
    kernel: MemoryKernel, dataplane: NftablesDataplane, troubles: Troubles, before: Trouble
) -> None:
    """A rule that is added again stands there twice."""
    troubles.waiting = [before]
    with pytest.raises(KernelUnavailable):
        dataplane.apply(STATES[LAST], NODE, complete=True)

    dataplane.apply(())

    assert structure(kernel, PROGRAMS) == structure(fresh(), PROGRAMS)
    assert seen(dataplane.dump()) == expected(STATES[LAST], NODE)
