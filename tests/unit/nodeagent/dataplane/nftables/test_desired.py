"""What is wanted and what stands: setting a thing back leaves nothing to do, and any order ends with the last word."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from deltaplane.forwarding import Frontend, FrontendKind, ServiceForwarding
from nodeagent.dataplane.frontend_key import identity
from nodeagent.dataplane.nftables.dataplane import NftablesDataplane
from nodeagent.dataplane.nftables.desired import Desired
from tests.fakes.nftables.memory import MemoryKernel
from tests.unit.nodeagent.dataplane.nftables.walks import (
    NODE,
    RANGES,
    SETTINGS,
    all_sticky,
    cluster_ip,
    expected,
    external,
    local_policy,
    node_port,
    seen,
    service,
    targets,
)

NAMES, PORTS = "abc", (30080, 30081)


def test_setting_a_service_back_leaves_nothing_to_do() -> None:
    desired = Desired((4, 6))
    first = service("a", node_port(30080, targets(1, 2)))
    desired.put(first)
    frontend = identity(first.entries[0])
    desired.frontends.actual[frontend] = desired.frontends.desired[frontend].value
    desired.put(service("a", node_port(30080, targets(3))))
    assert not desired.settled(frontend)
    desired.put(first)
    assert desired.settled(frontend)


class Walk(RuleBasedStateMachine):
    """Any order of changes, restarts and complete rounds ends with what was wanted last."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = MemoryKernel()
        self.services: dict[str, ServiceForwarding] = {}
        self.start()

    def start(self) -> None:
        self.dataplane = NftablesDataplane(self.kernel, SETTINGS)
        self.dataplane.start()
        self.dataplane.apply(list(self.services.values()), NODE, complete=True)

    @rule(
        name=st.sampled_from(NAMES),
        ports=st.sets(st.sampled_from(PORTS)),
        numbers=st.sets(st.integers(1, 9)),
        address=st.integers(1, 2),
        ranges=st.sampled_from([None, (), RANGES, RANGES[:1]]),
        seconds=st.sampled_from([0, 0, 60, 10800]),
    )
    def change(
        self,
        name: str,
        ports: set[int],
        numbers: set[int],
        address: int,
        *,
        ranges: tuple[str, ...] | None,
        seconds: int,
    ) -> None:
        backends, number = targets(*numbers), NAMES.index(name)
        entries = [node_port(port + 10 * number, backends) for port in sorted(ports)]  # whose it is, is decided before
        if ranges is not None:
            vip = Frontend(FrontendKind.LOAD_BALANCER, 4, bytes((198, 51, 100, number)), 6, 80)
            local = targets(*sorted(numbers)[:2])
            entries.append(local_policy(vip, backends, local, ranges) if local else external(vip, backends, ranges))
        made = service(name, cluster_ip(f"172.30.{number}.{address}", backends), *entries)
        made = all_sticky(made, seconds)
        self.services[name] = made
        self.dataplane.apply([made])

    @rule(name=st.sampled_from(NAMES))
    def remove(self, name: str) -> None:
        self.services.pop(name, None)
        self.dataplane.apply([service(name)])

    @rule()
    def restart(self) -> None:
        sent = len(self.kernel.batches)
        self.start()
        assert len(self.kernel.batches) == sent

    @rule(data=st.data())
    def others_take_an_element(self, data: st.DataObject) -> None:
        sets = self.kernel.tables[2, "deltaplane"].sets
        full = sorted(name for name, held in sets.items() if held.elements and "/" not in name)
        held = sets[data.draw(st.sampled_from(full))]
        del held.elements[data.draw(st.sampled_from(sorted(held.elements)))]
        self.dataplane.repair()

    @rule()
    def lose_the_table(self) -> None:
        self.kernel.tables.clear()
        self.start()

    @invariant()
    def the_kernel_says_what_is_wanted(self) -> None:
        taken: set[object] = set()
        standing = []
        for _, one in sorted(self.services.items()):
            standing.append(service(one.key.name, *(entry for entry in one.entries if entry.frontend not in taken)))
            taken |= {entry.frontend for entry in one.entries}
        assert seen(self.dataplane.dump()) == expected(tuple(standing), NODE)
        assert not self.dataplane.pending()
        private = {n for table in self.kernel.tables.values() for n in (*table.chains, *table.sets) if "/" in n}
        assert private == self.private(standing)

    @staticmethod
    def private(standing: list[ServiceForwarding]) -> set[str]:
        """What a kernel has for some Services only that never had others."""
        kernel = MemoryKernel()
        dataplane = NftablesDataplane(kernel, SETTINGS)
        dataplane.start()
        dataplane.apply(standing, NODE, complete=True)
        return {n for table in kernel.tables.values() for n in (*table.chains, *table.sets) if "/" in n}


class LongWalk(Walk):
    """More of the same."""


Walk.TestCase.settings = settings(max_examples=8, stateful_step_count=12)
LongWalk.TestCase.settings = settings(max_examples=60, stateful_step_count=15)
TestWalk = Walk.TestCase
TestLongWalk = pytest.mark.slow(LongWalk.TestCase)
