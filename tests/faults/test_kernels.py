"""Fault cases 17 and 18: the kernel refuses one object, others flush the rules, hold a lock or keep nf_tables busy."""

from __future__ import annotations

import fcntl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.faults.world import Part, World, address, until
from tools.lab import rules

LOCKED = 30.0  # seconds that another program holds the lock of xtables
BUSY = 8.0
POISON = "10.96.0.66"
POISONED = f"""
from socket import inet_aton
from msgspec.structs import replace
from nodeagent.dataplane import widths
from nodeagent.dataplane.nftables.desired import Desired as D
widths.check = lambda entry: None
real = D.put
def wide(entry):
    at = entry.frontend
    if at.address != inet_aton("{POISON}"):
        return entry
    return replace(entry, frontend=at._replace(address=at.address * 2))
D.put = lambda self, service: real(self, replace(service, entries=tuple(map(wide, service.entries))))
"""  # an address of eight bytes comes to the kernel, which refuses it


def test_fault_17_the_kernel_refuses_one_object_until_it_is_mended(empty: World) -> None:
    replica, agent = empty.replica(), empty.agent(start=False)
    agent.before = POISONED
    agent.start()
    empty.holds()
    empty.put(66, [address(66)], vip=POISON)
    until(lambda: bool(replica.nodes()["n0"].failed), "a node that tells of the refusal")
    (failed,) = replica.nodes()["n0"].failed
    assert failed.key.name == "s66"
    empty.put(1, [address(98), address(99)])
    others = {vip: ips for vip, ips in empty.wanted().items() if vip != POISON}
    until(lambda: empty.has(agent, others), "the others' change")
    assert empty.reached(agent, 1) == set(empty.truth[1])

    empty.put(66, [address(66)], vip="10.96.0.67")

    empty.holds()
    assert not replica.nodes()["n0"].failed


@contextmanager
def held(file: str) -> Iterator[None]:
    """Another program's lock."""
    with open(file, "w") as lock:  # noqa: PTH123 - xtables' own way
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def reaches_all(world: World, agent: Part) -> bool:
    return all(world.reached(agent, number) == set(endpoints) for number, endpoints in world.truth.items())


@pytest.fixture
def xtables(empty: World) -> Part:
    """An agent with the legacy programs of iptables, whose lock is a file of the test's own."""
    empty.replica()
    agent = empty.agent("--proxy-mode=iptables", start=False)
    assert agent.space is not None
    rules.hint(agent.space)
    agent.before = f"import os\nos.environ['XTABLES_LOCKFILE'] = {str(empty.folder / 'lock')!r}"
    agent.start()
    until(lambda: reaches_all(empty, agent), empty.state)
    return agent


@pytest.mark.slow
def test_fault_18_the_xtables_lock_is_held_for_half_a_minute(empty: World, xtables: Part) -> None:
    assert xtables.space is not None
    before = {number: set(endpoints) for number, endpoints in empty.truth.items()}
    with held(str(empty.folder / "lock")):
        end = time.monotonic() + LOCKED
        empty.put(1, [address(98), address(99)])
        empty.put(4, [address(40)])
        while time.monotonic() < end:
            assert {number: empty.reached(xtables, number) for number in before} == before
            assert xtables.running.running
            time.sleep(2)
    until(lambda: reaches_all(empty, xtables), empty.state)
    assert "xtables lock" in xtables.output()

    rules.run(xtables.space, "iptables-legacy", "-t", "nat", "-F")

    until(lambda: reaches_all(empty, xtables), empty.state)


@pytest.mark.slow
def test_fault_18_nf_tables_is_busy_with_others_transactions(pair: World) -> None:
    over = threading.Event()
    elements = ", ".join(f"10.{200 + (n >> 16)}.{n >> 8 & 255}.{n & 255}" for n in range(20_000))
    text = f"table ip other {{ set s {{ type ipv4_addr; elements = {{ {elements} }}\n}}\n}}\ndelete table ip other\n"

    def busy(agent: Part) -> None:
        assert agent.space is not None
        while not over.is_set():
            rules.run(agent.space, "nft", "-f", "-", stdin=text)

    threads = [threading.Thread(target=busy, args=(agent,)) for agent in pair.agents]
    for thread in threads:
        thread.start()
    try:
        end = time.monotonic() + BUSY
        while time.monotonic() < end:
            pair.removed(1, pair.truth[1][0])
            pair.put(1, [*pair.truth[1], address(100 + len(pair.truth[1]))])
            pair.put(2, [address(150), address(int(time.monotonic()) % 50 + 160)])
    finally:
        over.set()
        for thread in threads:
            thread.join()

    pair.holds()
