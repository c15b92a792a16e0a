"""Ended between any two transactions while changes arrive: the next start makes what the last input means."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest

from deltaplane.forwarding import ServiceForwarding
from nodeagent.dataplane.iptables import naming as n
from nodeagent.dataplane.outcome import Commit
from nodeagent.errors import KernelUnavailable
from nodeagent.linux.iptables import removal
from tests.fakes.iptables.memory import Killed, MemoryIptables
from tests.unit.nodeagent.dataplane.iptables.tracing import programmed, sorted_tables, started
from tests.unit.nodeagent.dataplane.nftables.walks import NODE, STATES, cluster_ip, service, targets


def many(count: int, endpoints: int = 2) -> list[ServiceForwarding]:
    backends = targets(*range(1, endpoints + 1))
    return [service(f"s{i}", cluster_ip(f"172.30.{i // 250}.{i % 250 + 1}", backends)) for i in range(count)]


@pytest.mark.parametrize("seed", range(200))
def test_after_any_end_the_kernel_is_what_the_last_input_means(seed: int) -> None:
    chance = random.Random(seed)
    kernel = MemoryIptables()
    states = [STATES[name] for name in chance.sample(sorted(STATES), 5)]
    for state in states:
        kernel.commits = chance.randrange(6)
        with suppress(Killed):
            dataplane = started(kernel)
            dataplane.apply(state, NODE, complete=True)
            dataplane.apply(chance.choice(states))
    kernel.commits = -1
    assert not started(kernel).apply(states[0], NODE, complete=True).failed
    assert sorted_tables(kernel) == sorted_tables(programmed(*states[0])[1])
    assert started(kernel).apply(states[0], NODE, complete=True) == Commit()


@pytest.fixture
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "MOST", 20)


@pytest.mark.usefixtures("_small_parts")
@pytest.mark.parametrize("commits", range(-1, 12))
def test_a_cold_load_goes_in_by_parts_each_of_which_serves(commits: int) -> None:
    kernel = MemoryIptables([4])
    kernel.commits = commits
    with suppress(Killed):
        started(kernel).apply(many(50), NODE, complete=True)
    for chains in [kernel.tables[4, n.NAT]]:
        for rule in chains.get(n.SERVICES, []):
            assert chains[rule.rpartition(" ")[2]] or "KUBE-NODEPORTS" in rule
    if commits < 0:
        assert kernel.inputs[0][1].count("*nat") == 9  # three chains each, beside the base four Services, then six
    kernel.commits = -1
    started(kernel).apply(many(50), NODE, complete=True)
    fresh = MemoryIptables([4])
    started(fresh).apply(many(50), NODE, complete=True)
    assert sorted_tables(kernel) == sorted_tables(fresh)


@pytest.mark.usefixtures("_small_parts")
def test_what_nobody_has_goes_by_parts_too_those_that_lead_to_others_first() -> None:
    _, kernel = programmed(*many(200), *STATES["affinity, local policy"])
    again = started(kernel)
    assert not again.apply(many(1), NODE, complete=True).failed
    assert kernel.inputs[-1][1].count("*nat") > 10
    assert sorted_tables(kernel) == sorted_tables(programmed(*many(1))[1])


@pytest.mark.parametrize("commits", range(6))
def test_after_a_restore_that_did_not_say_how_far_it_came_the_tables_are_read_again(commits: int) -> None:
    dataplane, kernel = programmed(*STATES["affinity, local policy"])
    kernel.commits, kernel.over = commits, KernelUnavailable("iptables: it did not end")
    wanted = STATES["load balancer, some sources, no endpoint"]
    with suppress(KernelUnavailable):
        dataplane.apply(wanted, complete=True)
    kernel.commits = -1
    assert not dataplane.apply([]).failed
    assert not dataplane.pending()
    assert sorted_tables(kernel) == sorted_tables(programmed(*wanted)[1])
