"""Redirects as elements of our nft tables, each write one transaction. Called by `dataplane` through `Redirects`.

Messages, socket and monitor are those of nftables mode; the rules are `program`'s and never change.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterable, Iterator, Sequence

from nodeagent.dataplane.nftables import elements, listing, naming
from nodeagent.dataplane.nftables.changes import MEMBER_SETS, Change, Operation, member_change
from nodeagent.dataplane.nftables.drift import Damage, Watch
from nodeagent.dataplane.nftables.kernel import Kernel, NetlinkKernel, unavailable
from nodeagent.dataplane.nftables.monitor import Monitor, NetlinkMonitor
from nodeagent.dataplane.nftables.program import Program
from nodeagent.dataplane.nftables.render import HAIRPIN_MEMBER, RANGE_MEMBERS
from nodeagent.dataplane.nftables.transaction import Batch
from nodeagent.dataplane.userspace.loopback import Home
from nodeagent.dataplane.userspace.program import MAPS, VERDICT_MAPS, program
from nodeagent.dataplane.userspace.redirects import Drifted, Written
from nodeagent.dataplane.userspace.settings import Settings
from nodeagent.dataplane.userspace.tracker import STANDS, Difference, Placement, Value, is_frontend
from nodeagent.errors import DataplaneUnavailable, KernelUnavailable
from nodeagent.linux.netlink import wire

log = logging.getLogger(__name__)

PER_BATCH = 4_000  # slots in one transaction of a cold load
WHOLE = frozenset((errno.EPERM, errno.EACCES, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN, errno.EINTR))
DRIFT = frozenset((errno.ENOENT, errno.EEXIST))


class NftRedirects:
    """Implements `Redirects`. Without a kernel, on the calling thread's."""

    kind = "nft"

    def __init__(self, settings: Settings, kernel: Kernel | None = None, monitor: Monitor | None = None) -> None:
        self._kernel = kernel or NetlinkKernel()
        self._watch = Watch(monitor or self._hear(), settings.table)
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

    def _hear(self) -> Monitor | None:
        try:
            return NetlinkMonitor(self._kernel) if isinstance(self._kernel, NetlinkKernel) else None
        except OSError as error:
            log.warning("userspace: what others change will not be noticed (%s)", os.strerror(error.errno or 0))
            return None

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
                    standing.update(dict.fromkeys(self._members(wanted), STANDS))
        except OSError as error:
            raise unavailable(error, self._table) from error
        self._watch.damage.clear()
        self._home.forget()
        return {**standing, **{slot: tuple(sorted(values)) for slot, values in found.items()}}

    def _ours(self, family: int, wanted: Program) -> bool:
        comment = listing.comment(self._kernel, wanted)
        if comment is None:
            self._install.add(family)
            return False
        chains = {chain.name: len(chain.rules) for chain in wanted.chains}
        intact = comment == wanted.table.comment and listing.chains(self._kernel, wanted) == chains
        intact = intact and listing.sets(self._kernel, wanted) == {declared.name for declared in wanted.sets}
        if not intact or self._watch.damage.get(family) is Damage.STRUCTURE:
            self._replace.add(family)
        return family not in self._replace

    def _read_maps(self, wanted: Program, into: dict[bytes, list[tuple[str, Value]]]) -> None:
        prefix = bytes((wanted.family,))
        for name in MAPS:
            for key, data in listing.listed(self._kernel, wanted, name):
                value = elements.verdict_name(data) if name in VERDICT_MAPS else data
                into.setdefault(prefix + key, []).append((name, value))

    def _members(self, wanted: Program) -> Iterator[bytes]:
        prefix = bytes((wanted.family,))
        for number, name in enumerate(MEMBER_SETS):
            if number in RANGE_MEMBERS:
                yield from listing.ranges(self._kernel, wanted, number)
            elif number != HAIRPIN_MEMBER:
                for key, _ in listing.listed(self._kernel, wanted, name):
                    yield prefix + bytes((number,)) + key

    # ------------------------------------------------------------ writing

    def write(self, differences: Sequence[Difference], *, again: bool = False) -> Written:
        """See `Redirects.write`. A table that is to be replaced goes with its successor in one transaction."""
        sent = Written()
        items = [(difference, _change(difference)) for difference in differences]
        size = len(items) if self._replace else PER_BATCH
        while items or self._install or self._replace:
            self._deliver(items[:size], sent, again=again)
            items = items[size:]
        return sent

    def _deliver(self, items: list[tuple[Difference, Change]], sent: Written, *, again: bool) -> None:
        while items or self._install or self._replace:
            batch = self._build([change for _, change in items])
            replies = self._kernel.commit(batch.data(), batch.first, batch.last)
            self._sequence = batch.last + 2 if batch.last < 0x7000_0000 else 1
            if not replies:
                self._settled(batch, items, sent)
                return
            guilty = self._guilty(batch, replies, again=again)
            if guilty is None:
                middle = len(items) // 2
                self._deliver(items[:middle], sent, again=again)
                items = items[middle:]
                continue
            sent.refused += [(items[index][0], _why(items[index][1], code)) for index, code in guilty.items()]
            items = [item for index, item in enumerate(items) if index not in guilty]

    def _build(self, changes: list[Change]) -> Batch:
        batch = Batch(self._table, self._sequence)
        for family in sorted(self._replace):
            batch.remove_table(self._programs[family])
        for family in sorted(self._replace | self._install):
            batch.install(self._programs[family])
        batch.change(changes)
        return batch

    def _settled(self, batch: Batch, items: Iterable[tuple[Difference, Change]], sent: Written) -> None:
        self._install.clear()
        self._replace.clear()
        sent.done += [difference for difference, _ in items]
        sent.messages += batch.messages
        sent.elements += batch.elements
        sent.size += batch.size

    def _guilty(self, batch: Batch, replies: Iterable[wire.Reply], *, again: bool) -> dict[int, int] | None:
        """The changes (index: errno) at fault; None where that cannot be told and the group is to be halved."""
        guilty: dict[int, int] = {}
        for answer in replies:
            blamed = batch.blamed(answer)
            if answer.errno in WHOLE or not blamed:
                raise KernelUnavailable(
                    f"userspace: the kernel refused a transaction ({os.strerror(answer.errno)}); it is retried"
                )
            if answer.errno in DRIFT and not again:
                raise Drifted
            if len(blamed) > 1:
                return None
            guilty[blamed[0]] = answer.errno
        return guilty

    # ------------------------------------------------------------ others

    def fileno(self) -> int:
        return self._watch.fileno()

    def drifted(self) -> bool:
        return self._watch.drifted(self.families)

    def close(self) -> None:
        self._kernel.close()
        self._watch.close()
        self._home.close()


def _change(difference: Difference) -> Change:
    owner, slot, before, after = difference
    if not is_frontend(slot):
        return member_change(owner, slot, bool(after))
    family, key = slot[0], slot[1:]
    deletes: list[Operation] = [(family, name, elements.member(key)) for name, v in before if (name, v) not in after]
    adds = [(family, name, _element(key, value)) for name, value in after if (name, value) not in before]
    return Change(owner, slot, deletes, adds)


def _element(key: bytes, value: Value) -> bytes:
    return elements.dispatch(key, value) if isinstance(value, str) else elements.pair(key, value)


def _why(change: Change, code: int) -> str:
    what = naming.name_of(change.identity) if is_frontend(change.identity) else naming.describe(change)
    return f"the kernel refused {what}: {os.strerror(code)}"
