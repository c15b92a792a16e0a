"""Fault cases 6 and 28: readers that are slower than the network, and never read; by hand, without gRPC's library."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.clients import MOST, Raw, raw
from tests.faults.world import World, address, until

MEMORY = 30 << 20  # bytes that the replica may grow by
STUCK = 2.0  # seconds after which a stuck stream ends, for a minute: an hour passes in two minutes
HOUR = 30.0


def resident(pid: int) -> int:
    """Bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def rewrite(world: World, number: int) -> None:
    """Some hundred KiB for whoever has no snapshot, and about as much for those who follow."""
    start = 1000 + 1000 * (number % 2)
    world.put(1, [address(one) for one in range(start, start + 900)])
    world.holds()


@pytest.mark.slow
def test_fault_06_a_reader_of_one_byte_a_second(pair: World) -> None:
    first = pair.replicas[0]
    rewrite(pair, 0)
    rewrite(pair, 1)
    with ExitStack() as stack:
        before = resident(first.running.pid)
        slow = [stack.enter_context(raw(first.address, f"slow-{number}")) for number in range(10)]
        for number in range(10):
            for one in slow:
                one.read(1)
            rewrite(pair, number)
            time.sleep(1.0)

        assert resident(first.running.pid) - before < MEMORY
        assert {one.got for one in slow} == {10}
        left = [node for name, node in first.nodes().items() if name.startswith("slow")]  # a minute ends a stuck stream
        assert all(node.applied_rev == 0 for node in left)
    pair.removed(1, pair.truth[1][0])
    pair.holds()


@pytest.mark.slow
def test_fault_28_clients_that_never_read_and_come_back_for_ever_do_not_grow_the_replica(empty: World) -> None:
    first = empty.replica(before=f"import controlplane.streams as s\ns.WRITE_SECONDS = {STUCK}")
    empty.agent()
    for number in range(4):
        rewrite(empty, number)
    before, comings, names = resident(first.running.pid), 0, {f"stuck-{number}" for number in range(10)}
    with ExitStack() as stack:
        clients: dict[str, Raw] = {}
        end, number = time.monotonic() + HOUR, 0
        while time.monotonic() < end:
            for name in names - first.nodes().keys():
                if name in clients:
                    clients[name].close()
                window = comings % 2 * MOST  # none: stuck at once; else: once the socket is full
                clients[name] = stack.enter_context(raw(first.address, name, window))
                comings += 1
            number += 1
            rewrite(empty, number)

        assert resident(first.running.pid) - before < MEMORY
        assert comings > len(names), "they were not stuck"
    until(lambda: first.nodes().keys() == {"n0"}, "a replica that has let go of them")
    empty.holds()
