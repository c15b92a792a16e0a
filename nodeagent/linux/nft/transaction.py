"""Batches: changes and program parts as one atomic transaction, and whose fault it was when one is refused.

The order inside a batch is the one place where order is decided: the table to be replaced, then what is referred to
(sets, chains, rules), then deletions, then additions, because a changed value is deleted and added under the same key.
Elements of one set go together, at most 500 in a message. Only the last message asks to be acknowledged; the kernel
reports every refused one by its sequence number anyway.
"""

from __future__ import annotations

import errno
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Protocol

from nodeagent.linux.netlink import wire
from nodeagent.linux.nft import objects
from nodeagent.linux.nft.expressions import LAYOUTS, NFPROTO
from nodeagent.linux.nft.objects import Chain
from nodeagent.linux.nft.program import Part, Program

PER_MESSAGE = 500  # elements; an attribute's length has 16 bits
_LIST_ATTRIBUTE = 4
WHOLE = frozenset((errno.EPERM, errno.EACCES, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN, errno.EINTR))
"""Refusals that are no element's fault: the kernel takes nothing at the moment."""
DRIFT = frozenset((errno.ENOENT, errno.EEXIST))
"""Refusals that say that the table is not as it was left."""

Operation = tuple[int, str, bytes]  # family, set, element


class Change(Protocol):
    """Elements that go in and out together, or not at all."""

    @property
    def deletes(self) -> Sequence[Operation]: ...

    @property
    def adds(self) -> Sequence[Operation]: ...


class Batch:
    """A transaction being built; `data` closes it."""

    def __init__(self, table: str, sequence: int) -> None:
        self.first = sequence
        self.elements = 0
        self.size = 0  # bytes, once `data` was called
        self._names = wire.text(1, table)
        self._table = table
        self._identity = 0  # of sets, within the transaction
        self._parts = [wire.begin(sequence)]
        self._last: tuple[int, int, int, bytes] = (0, 0, 0, b"")
        self._blame: dict[int, tuple[list[int], list[bytes], int]] = {}
        self._about: dict[int, tuple[str, int, str]] = {}  # of the same: verb, family and name, for words

    @property
    def messages(self) -> int:
        """Messages so far, with both brackets."""
        return len(self._parts) + 1

    @property
    def empty(self) -> bool:
        return len(self._parts) == 1

    @property
    def last(self) -> int:
        """The sequence number of the last message inside the brackets."""
        return self.first + len(self._parts) - 1

    @property
    def following(self) -> int:
        """The first sequence number of the transaction after this one."""
        return self.last + 2 if self.last < 0x7000_0000 else 1

    def data(self) -> bytes:
        """The whole transaction; its last message asks to be acknowledged."""
        operation, flags, family, body = self._last
        closing = wire.request(operation, flags | wire.ACK, self.last, family, body)
        packed = b"".join([*self._parts[:-1], closing, wire.end(self.last + 1)])
        self.size = len(packed)
        return packed

    def add(self, operation: int, flags: int, family: int, body: bytes) -> int:
        """Appends a message; its sequence number."""
        sequence = self.first + len(self._parts)
        self._last = operation, flags, NFPROTO[family], body
        self._parts.append(wire.request(operation, flags, sequence, NFPROTO[family], body))
        return sequence

    def remove_table(self, program: Program) -> None:
        self.add(objects.DELETE_TABLE, 0, program.family, self._names)

    def install(self, program: Program) -> None:
        """The table with its sets and constant chains."""
        self.add(objects.NEW_TABLE, wire.CREATE, program.family, program.table.attributes())
        self.part(program.family, Part(program.chains, program.sets))

    def part(self, family: int, part: Part, needed_by: list[int] | None = None) -> None:
        """Sets, then chains, then their rules, so that they may refer to each other."""
        for declared in part.sets:
            self._identity += 1
            body = declared.attributes(self._table, family, self._identity)
            self._note(
                self.add(objects.NEW_SET, wire.CREATE, family, body), needed_by, "add set", family, declared.name
            )
            self.fill(family, declared.name, [e for r in declared.ranges for e in r.elements()], needed_by)
        self._chains(family, part.chains, needed_by)

    def fill(self, family: int, name: str, packed: Sequence[bytes], needed_by: list[int] | None = None) -> None:
        """Elements that no change asks for."""
        self.elements += len(packed)
        for start in range(0, len(packed), PER_MESSAGE):
            body = self._names + wire.text(2, name) + wire.nest(3, *packed[start : start + PER_MESSAGE])
            self._note(self.add(objects.NEW_ELEMENT, wire.CREATE, family, body), needed_by, "add element", family, name)

    def remove(self, family: int, chains: Sequence[str], sets: Sequence[str]) -> None:
        """Chains with their rules, then sets."""
        for name in chains:
            self.add(objects.DELETE_CHAIN, 0, family, self._names + wire.text(3, name))
        for name in sets:
            self.add(objects.DELETE_SET, 0, family, self._names + wire.text(2, name))

    def _chains(self, family: int, chains: Sequence[Chain], needed_by: list[int] | None) -> None:
        for chain in chains:
            sequence = self.add(objects.NEW_CHAIN, wire.CREATE, family, chain.attributes(self._table))
            self._note(sequence, needed_by, "add chain", family, chain.name)
        for chain in chains:
            for rule in chain.rules:
                body = rule.attributes(self._table, chain.name)
                sequence = self.add(objects.NEW_RULE, wire.CREATE | wire.APPEND, family, body)
                self._note(sequence, needed_by, "add rule", family, chain.name)

    def change(self, changes: Sequence[Change]) -> None:
        """Every change's deletions, then every change's additions."""
        self._operations(objects.DELETE_ELEMENT, 0, ((n, change.deletes) for n, change in enumerate(changes)))
        self._operations(objects.NEW_ELEMENT, wire.CREATE, ((n, change.adds) for n, change in enumerate(changes)))

    def blamed(self, reply: wire.Reply) -> list[int]:
        """The changes (by index) that the refused message carried: the one at the reported offset, or all it holds."""
        if reply.sequence not in self._blame:
            return []
        indices, packed, start = self._blame[reply.sequence]
        if reply.offset < start or not packed:
            return sorted(set(indices))
        ends, position = [], start
        for element in packed:
            position += len(element)
            ends.append(position)
        found = bisect_right(ends, reply.offset)
        return [indices[found]] if found < len(indices) else sorted(set(indices))

    def command(self, reply: wire.Reply) -> str:
        """The refused message as nft would say it, `add element ip TABLE SET`; empty: no change's."""
        if reply.sequence not in self._about:
            return ""
        verb, family, name = self._about[reply.sequence]
        return f"{verb} {LAYOUTS[family].name} {self._table} {name}"

    def _note(self, sequence: int, needed_by: list[int] | None, verb: str, family: int, name: str) -> None:
        if needed_by is not None:
            self._blame[sequence] = (needed_by, [], 0)
            self._about[sequence] = verb, family, name

    def _operations(self, operation: int, flags: int, listed: Iterable[tuple[int, Sequence[Operation]]]) -> None:
        groups: dict[tuple[int, str], tuple[list[int], list[bytes]]] = {}
        place: tuple[int, str] = (0, "")
        owners, elements = groups.setdefault(place, ([], []))
        for number, operations in listed:
            for family, name, element in operations:
                if name != place[1] or family != place[0]:
                    place = family, name
                    owners, elements = groups.setdefault(place, ([], []))
                owners.append(number)
                elements.append(element)
        self._pack(operation, flags, groups)

    def _pack(self, operation: int, flags: int, groups: dict[tuple[int, str], tuple[list[int], list[bytes]]]) -> None:
        verb = "delete element" if operation == objects.DELETE_ELEMENT else "add element"
        for (family, name), (numbers, packed) in groups.items():
            self.elements += len(packed)
            head = self._names + wire.text(2, name)
            for start in range(0, len(packed), PER_MESSAGE):
                chosen, owners = packed[start : start + PER_MESSAGE], numbers[start : start + PER_MESSAGE]
                sequence = self.add(operation, flags, family, head + wire.nest(3, *chosen))
                self._blame[sequence] = (owners, chosen, wire.PREFIX + len(head) + _LIST_ATTRIBUTE)
                self._about[sequence] = verb, family, name
