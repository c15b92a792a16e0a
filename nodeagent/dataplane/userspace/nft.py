"""Redirects as elements of our nft tables, each write one transaction. Called by `dataplane` through `Redirects`.

The rules are `program`'s and never change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from nodeagent.dataplane import frontend_key, nft_sets, set_members
from nodeagent.dataplane.frontend_key import is_frontend, is_node_port
from nodeagent.dataplane.nft_listing import read_members, read_some
from nodeagent.dataplane.refusals import Blame, NoneTaken, at_fault, send_apart
from nodeagent.dataplane.userspace.loopback import Home
from nodeagent.dataplane.userspace.program import MAPS, NODE_MAPS, VERDICT_MAPS, program
from nodeagent.dataplane.userspace.redirects import Written
from nodeagent.dataplane.userspace.settings import Settings
from nodeagent.dataplane.userspace.tracker import STANDS, Difference, Placement, Value
from nodeagent.errors import DataplaneUnavailable, KernelUnavailable
from nodeagent.linux.nft import elements, tables
from nodeagent.linux.nft.kernel import Kernel, NetlinkKernel, unavailable
from nodeagent.linux.nft.monitor import Monitor
from nodeagent.linux.nft.program import Program
from nodeagent.linux.nft.transaction import Batch, Operation
from nodeagent.linux.nft.watch import Damage, listen

PER_BATCH = 4_000  # slots in one transaction of a cold load


class NftRedirects:
    """Implements `Redirects`. Without a kernel, on the calling thread's."""

    kind = "nft"

    def __init__(self, settings: Settings, kernel: Kernel | None = None, monitor: Monitor | None = None) -> None:
        self._kernel = kernel or NetlinkKernel()
        self._watch = listen("userspace", self._kernel, settings.table, monitor=monitor)
        self._table = settings.table
        self._home = Home(settings)
        self.families = frozenset(family for family in (4, 6) if self._kernel.has(family))
        self._install: set[int] = set()  # families whose table is to be made
        self._replace: set[int] = set()  # families whose table is another program's, or not whole
        self._sequence = 1
        try:
            self._programs = {family: program(family, settings) for family in sorted(self.families)}
        except ValueError as error:
            raise DataplaneUnavailable(f"userspace: cluster CIDR: {error}: correct --cluster-cidr") from error

    def place(self, family: int) -> bytes:
        """The listeners' own address, which is there afterwards. Raises KernelUnavailable."""
        return self._home.place(family)

    @property
    def foreign(self) -> bool:
        return bool(self._replace)

    def configure(self, settings: Settings) -> None:
        """Takes other settings; the tables are replaced with the next write. Raises ValueError."""
        self._programs = {family: program(family, settings) for family in sorted(self.families)}

    # ------------------------------------------------------------ reading

    def read(self) -> dict[bytes, Placement]:
        """See `Redirects.read`."""
        found: dict[bytes, list[tuple[str, Value]]] = {}
        standing: dict[bytes, Placement] = {}
        self._install.clear()
        self._replace.clear()
        try:
            for family, wanted in self._programs.items():
                if self._ours(family, wanted):
                    self._read_maps(wanted, found)
                    standing.update(dict.fromkeys(read_members(self._kernel, wanted), STANDS))
        except OSError as error:
            raise unavailable(error, self._table) from error
        self._watch.damage.clear()
        self._home.forget()
        return {**standing, **{slot: tuple(sorted(values)) for slot, values in found.items()}}

    def _ours(self, family: int, wanted: Program) -> bool:
        comment = tables.comment(self._kernel, wanted.table)
        if comment is None:
            self._install.add(family)
            return False
        intact = comment == wanted.comment and self._intact(wanted)
        if not intact or self._watch.damage.get(family) is Damage.STRUCTURE:
            self._replace.add(family)
        return family not in self._replace

    def _intact(self, wanted: Program) -> bool:
        """Whether chains and sets are those that we made; rules are counted."""
        chains = {chain.name: len(chain.rules) for chain in wanted.chains}
        if tables.chains(self._kernel, wanted.table) != chains:
            return False
        return tables.sets(self._kernel, wanted.table) == {declared.name for declared in wanted.sets}

    def shows(self, member: bytes) -> bool:
        """See `Redirects.shows`."""
        name = set_members.SETS[member[1]]
        return any(declared.name == name for declared in self._programs[member[0]].sets)

    def standing(self, slots: Iterable[bytes]) -> dict[bytes, Placement]:
        """See `Redirects.standing`: each element is asked for alone."""
        asked, found = list(slots), dict[bytes, Placement]()
        for family, wanted in self._programs.items():
            mine = [slot for slot in asked if slot[0] == family]
            if not mine:
                continue
            if tables.comment(self._kernel, wanted.table) != wanted.comment or not self._intact(wanted):
                raise ValueError(f"table {self._table} of IPv{family} is not as the agent writes it")
            members = [slot for slot in mine if not is_frontend(slot)]
            found.update(dict.fromkeys(read_some(self._kernel, wanted, members), STANDS))
            found.update((slot, self._values(wanted, slot)) for slot in mine if is_frontend(slot))
        return {slot: placement for slot, placement in found.items() if placement}

    def _values(self, wanted: Program, slot: bytes) -> Placement:
        """What stands for one frontend, map by map."""
        names = [name for name in MAPS if (name in NODE_MAPS) is is_node_port(slot)]
        there = ((name, tables.element(self._kernel, wanted.table, name, slot[1:])) for name in names)
        return tuple(sorted((name, _value(name, data)) for name, data in there if data is not None))

    def _read_maps(self, wanted: Program, into: dict[bytes, list[tuple[str, Value]]]) -> None:
        prefix = bytes((wanted.family,))
        for name in MAPS:
            for key, data in tables.listed(self._kernel, wanted.table, name):
                into.setdefault(prefix + key, []).append((name, _value(name, data)))

    # ------------------------------------------------------------ writing

    def write(self, differences: Sequence[Difference], into: Written, *, again: bool = False) -> None:
        """See `Redirects.write`. A table that is to be replaced goes with its successor in one transaction."""
        items = [(difference, _change(difference)) for difference in differences]
        size = len(items) if self._replace else PER_BATCH
        while items or self._install or self._replace:
            send_apart(items[:size], lambda group: self._attempt(group, into, again=again))
            items = items[size:]

    def _attempt(
        self, items: Sequence[tuple[Difference, Change]], into: Written, *, again: bool
    ) -> dict[int, Blame] | None:
        """One transaction, as for `send_apart`."""
        if not (items or self._install or self._replace):
            return None
        batch = self._build([change for _, change in items])
        replies = self._kernel.commit(batch.data(), batch.first, batch.last)
        self._sequence = batch.following
        if not replies:
            self._settled(batch, items, into)
            return None
        try:
            guilty = at_fault(batch, replies, [again] * len(items))
        except NoneTaken as error:
            raise KernelUnavailable(f"userspace: the kernel refused a transaction ({error}); it is retried") from None
        into.refused += [(items[place][0], _why(items[place][0].slot, why)) for place, why in guilty.items()]
        return guilty

    def _build(self, changes: list[Change]) -> Batch:
        batch = Batch(self._table, self._sequence)
        for family in sorted(self._replace):
            batch.remove_table(self._programs[family])
        for family in sorted(self._replace | self._install):
            batch.install(self._programs[family])
        batch.change(changes)
        return batch

    def _settled(self, batch: Batch, items: Iterable[tuple[Difference, Change]], into: Written) -> None:
        self._install.clear()
        self._replace.clear()
        into.done += [difference for difference, _ in items]
        into.sent.messages += batch.messages
        into.sent.elements += batch.elements
        into.sent.size += batch.size

    # ------------------------------------------------------------ others

    def fileno(self) -> int:
        return self._watch.fileno()

    def drifted(self) -> bool:
        return self._watch.drifted(self.families)

    def close(self) -> None:
        self._kernel.close()
        self._watch.close()
        self._home.close()


class Change(NamedTuple):
    """The elements of one difference."""

    deletes: list[Operation]
    adds: list[Operation]


def _value(name: str, data: bytes) -> Value:
    return nft_sets.verdict_name(data) if name in VERDICT_MAPS else data


def _change(difference: Difference) -> Change:
    _, slot, before, after = difference
    if not is_frontend(slot):
        operations = nft_sets.operations(slot)
        return Change([], operations) if after else Change(operations, [])
    family, key = slot[0], slot[1:]
    return Change(
        [(family, name, elements.member(key)) for name, value in before if (name, value) not in after],
        [(family, name, _element(key, value)) for name, value in after if (name, value) not in before],
    )


def _element(key: bytes, value: Value) -> bytes:
    return nft_sets.dispatch(key, value) if isinstance(value, str) else elements.pair(key, value)


def _why(slot: bytes, why: Blame) -> str:
    name = (frontend_key if is_frontend(slot) else set_members).name_of(slot)
    return f"the kernel refused {name}: {why}"
