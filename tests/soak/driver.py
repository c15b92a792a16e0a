"""Random operations on a world, and the comparison in between.

The same seed is the same run where Python's hashes have the same seed too (`PYTHONHASHSEED`): in which order a set of
Services reaches the kernel depends on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging import CRITICAL, disable
from random import Random

from msgspec import structs

from controlplane.facts import Fact
from deltaplane.model import EndpointSlice, Kind, Service
from nodeagent.linux.nft.kernel import Kernel
from tests.fakes.nftables.memory import MemoryKernel
from tests.soak.objects import OWN, Dice
from tests.soak.trouble import Trouble
from tests.soak.world import World, remembering, ticking


class Driver:
    """One run. `work` does some operations, `check` says what differs after them."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.random = world, Random(seed)
        self.dice = Dice(self.random)
        world.troubles.random = self.random
        self._operations: list[Callable[[], None]] = []
        weights = []
        for weight, operation in self._table():
            weights.append(weight)
            self._operations.append(operation)
        self._weights = weights

    def _table(self) -> tuple[tuple[float, Callable[[], None]], ...]:
        world = self.world
        return (
            (30, self.put), (10, self.delete), (30, self.patch), (4, self.move_address), (1, self.relist),
            (14, world.step), (8, self.some_arrives), (2, self.time_passes),
            (2, self.lose), (2, self.repeat), (1, self.truncate), (1, world.connect),
            (0.4, world.restart_agent), (0.3, self.restart_without_journal), (0.3, self.restart_with_torn_journal),
            (0.4, world.restart_control_plane), (0.05, world.reboot), (1, self.trouble),
        )  # fmt: skip

    def work(self, operations: int) -> None:
        for operation in self.random.choices(self._operations, self._weights, k=operations):
            operation()

    def check(self) -> list[str]:
        """Lets the last input arrive and compares. The node under test is known then: until it is, ports stay open."""
        if self.world.replica.store.get(OWN) is None:
            self.world.put(Fact(OWN, self.dice.object(OWN)))
        self.world.settle()
        self.world.replica.digests.clear()
        return self.world.differences()

    # ------------------------------------------------------------ objects

    def put(self) -> None:
        key = self.dice.key()
        self.world.put(Fact(key, self.dice.object(key)))

    def delete(self) -> None:
        self.world.put(Fact(self.dice.key(), None))

    def patch(self) -> None:
        """A few slices change by an endpoint, in one batch."""
        store = self.world.replica.store
        keys = [self.dice.key() for _ in range(self.random.randint(1, 3))]
        held = [old for key in dict.fromkeys(keys) if isinstance(old := store.get(key), EndpointSlice)]
        self.world.put(*(Fact(old.key, self.dice.changed(old)) for old in held))

    def move_address(self) -> None:
        """One Service takes over another's addresses; the other goes, or takes the first one's."""
        services = [item for item in self.world.replica.store.objects() if isinstance(item, Service)]
        if len(services) < 2:
            return
        one, other = self.random.sample(services, 2)
        taken = structs.replace(one, cluster_ips=other.cluster_ips, ports=other.ports)
        left = structs.replace(other, cluster_ips=one.cluster_ips) if self.random.random() < 0.5 else None
        facts = [Fact(other.key, left), Fact(one.key, taken)]
        self.random.shuffle(facts)
        self.world.put(*facts)

    def relist(self) -> None:
        """A list that lacks some, has others anew and some changed."""
        kind = self.random.choice(list(Kind))
        held = [item for item in self.world.replica.store.objects() if item.key.kind == kind]
        missing = self.random.choice((0.0, 0.1, 0.5, 1.0))
        listed = [item for item in held if self.random.random() >= missing]
        fresh = (self.dice.object(key) for key in (self.dice.key() for _ in range(5)) if key.kind == kind)
        self.world.relist(kind, [*listed, *fresh])

    # ------------------------------------------------------------ link and processes

    def some_arrives(self) -> None:
        self.world.pull()
        for _ in range(self.random.randint(1, 4)):
            self.world.deliver_up()
            self.world.deliver_down()

    def time_passes(self) -> None:
        self.world.tick(self.random.choice((0.6, 11.0, 31.0)))

    def lose(self) -> None:
        self.world.pull()
        queue = self.random.choice((self.world.up, self.world.down))
        if queue:
            del queue[self.random.randrange(len(queue))]

    def repeat(self) -> None:
        self.world.pull()
        queue = self.random.choice((self.world.up, self.world.down))
        if queue:
            queue.append(self.random.choice(queue))

    def truncate(self) -> None:
        self.world.pull()
        if self.world.down and (message := self.world.down[0]):
            self.world.down[0] = message[: self.random.randrange(len(message))]

    def trouble(self) -> None:
        """The next transactions meet with it, unless the next comparison comes first."""
        self.world.troubles.waiting = self.random.choices(list(Trouble), k=self.random.randint(1, 3))

    def restart_without_journal(self) -> None:
        self.world.journal.messages.clear()
        self.world.restart_agent()

    def restart_with_torn_journal(self) -> None:
        kept = self.world.journal.messages
        del kept[self.random.randint(0, len(kept)) :]
        self.world.restart_agent()


@contextmanager
def driving(seed: int, connect: Callable[[], Kernel], wipe: Callable[[], None]) -> Iterator[Driver]:
    """A driver on a new world, without the agent's log lines."""
    disable(CRITICAL)
    try:
        with remembering():
            world = World(connect, wipe)
            try:
                with ticking(world):
                    yield Driver(world, seed)
            finally:
                world.agent.close()
    finally:
        disable(0)


@contextmanager
def in_memory(seed: int) -> Iterator[Driver]:
    """On the kernel in memory; what was sent to it is not kept."""
    kernel = MemoryKernel()
    kernel.batches = _Nothing()

    with driving(seed, lambda: kernel, kernel.tables.clear) as driver:
        yield driver


class _Nothing(list[bytes]):
    def append(self, _: bytes) -> None:
        """Not kept."""


def run(driver: Driver, operations: int, every: int, said: Callable[[int], None] = lambda _: None) -> list[str]:
    """So many operations, compared `every` so many; what differs, at the first comparison where anything does."""
    done = 0
    while done < operations:
        part = min(every, operations - done)
        done += part
        try:
            driver.work(part)
            found = driver.check()
        except Exception as error:
            error.add_note(f"within the last {part} of {done} operations")
            raise
        if found:
            return [f"after {done} operations: {line}" for line in found]
        said(done)
    return []
