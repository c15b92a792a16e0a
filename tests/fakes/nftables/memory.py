"""A kernel in memory: takes the same message bytes as the real one and refuses what it would refuse.

For tests and experiments, beside the real kernel behind the same seam (`kernel.Kernel`); the same cases run against
both. Validates what our transactions can get wrong: missing tables, sets and chains, another value under an existing
key, deleting what is not there, keys and values of the wrong size. Evaluating packets is `trace`'s.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator

from nodeagent.errors import KernelUnavailable
from nodeagent.linux.netlink import wire
from nodeagent.linux.nft import elements, objects
from nodeagent.linux.nft.objects import VERDICT_TYPE
from tests.fakes.nftables.tables import MemoryChain, MemorySet, MemoryTable, complete, overlaps, packed, target, unfit

_ELEMENTS = 3  # NFTA_SET_ELEM_LIST_ELEMENTS
_PER_MESSAGE = 300
_MULTI = 0x2  # NLM_F_MULTI


class Refused(Exception):
    """A message the kernel does not take."""

    def __init__(self, code: int, offset: int = -1) -> None:
        super().__init__(os.strerror(code))
        self.code, self.offset = code, offset


class MemoryKernel:
    """Implements `kernel.Kernel`. `refusing`: an errno with which every transaction is refused as a whole."""

    def __init__(self, families: Iterable[int] = (4, 6)) -> None:
        self.tables: dict[tuple[int, str], MemoryTable] = {}  # by protocol family and name
        self.refusing = 0
        self.batches: list[bytes] = []  # every transaction sent
        self.listings = 0
        self._families = frozenset(families)
        self._undo: list[Callable[[], object]] = []

    def has(self, family: int) -> bool:
        return family in self._families

    def close(self) -> None:
        """Nothing to let go of."""

    def commit(self, batch: bytes, first: int, last: int) -> list[wire.Reply]:
        self.batches.append(batch)
        received = list(wire.messages(batch))
        if received[0].type != wire.BATCH_BEGIN or received[-1].type != wire.BATCH_END:
            raise KernelUnavailable("nftables: a transaction without its brackets")
        if self.refusing:
            return [wire.Reply(first, self.refusing)]
        self._undo = []
        refused = []
        for message in received[1:-1]:
            try:
                self._run(message)
            except Refused as error:
                refused.append(wire.Reply(message.sequence, error.code, error.offset))
        if refused:
            for step in reversed(self._undo):
                step()
        return refused

    def ask(self, request: bytes) -> Iterator[wire.Message]:
        self.listings += 1
        asked = next(wire.messages(request))
        attributes = wire.attributes(asked.body)
        table = self.tables.get((asked.family, wire.as_text(attributes[1])))
        operation = asked.type & 0xFF
        if table is None:
            if operation in (objects.GET_CHAIN, objects.GET_RULE, objects.GET_SET):
                return
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        for body in self._answers(operation, attributes, table):
            yield wire.Message(asked.type, _MULTI, asked.sequence, asked.family, body)

    @staticmethod
    def _answers(operation: int, attributes: dict[int, bytes], table: MemoryTable) -> Iterator[bytes]:
        head = wire.attribute(1, attributes[1])
        if operation == objects.GET_TABLE:
            yield head + wire.attribute(6, table.note)
        elif operation == objects.GET_CHAIN:
            yield from (head + wire.text(3, name) for name in table.chains)
        elif operation == objects.GET_RULE:
            yield from (head + wire.text(2, name) for name, chain in table.chains.items() for _ in chain.rules)
        elif operation == objects.GET_SET:
            yield from (head + wire.text(2, name) for name in table.sets)
        else:
            held = table.sets.get(wire.as_text(attributes[2]))
            if held is None:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
            listed = [packed(held, key, data) for key, data in _chosen(held, attributes).items()]
            for start in range(0, len(listed), _PER_MESSAGE):
                yield head + wire.nest(_ELEMENTS, *listed[start : start + _PER_MESSAGE])

    def _run(self, message: wire.Message) -> None:
        attributes, operation = wire.attributes(message.body), message.type & 0xFF
        identity = (message.family, wire.as_text(attributes[1]))
        if operation == objects.NEW_TABLE:
            if identity not in self.tables:
                self._put(self.tables, identity, MemoryTable(attributes.get(6, b"")))
            return
        table = self.tables.get(identity)
        if table is None:
            raise Refused(errno.ENOENT)
        if operation == objects.DELETE_TABLE:
            self._drop(self.tables, identity)
        elif operation in (objects.NEW_ELEMENT, objects.DELETE_ELEMENT):
            self._run_elements(table, message, operation == objects.NEW_ELEMENT)
        else:
            {
                objects.NEW_SET: self._new_set,
                objects.NEW_CHAIN: self._new_chain,
                objects.NEW_RULE: self._new_rule,
                objects.DELETE_CHAIN: self._delete_chain,
                objects.DELETE_SET: self._delete_set,
            }[operation](table, attributes)

    def _new_set(self, table: MemoryTable, attributes: dict[int, bytes]) -> None:
        number = wire.as_number
        verdicts = 6 in attributes and number(attributes[6]) == VERDICT_TYPE
        made = MemorySet(number(attributes[5]), number(attributes.get(7, b"")), verdicts, number(attributes[3]))
        if wire.as_text(attributes[2]) not in table.sets:
            self._put(table.sets, wire.as_text(attributes[2]), made)

    def _new_chain(self, table: MemoryTable, attributes: dict[int, bytes]) -> None:
        name, hook = wire.as_text(attributes[3]), None
        if 4 in attributes:
            place = wire.attributes(attributes[4])
            hook = (wire.as_text(attributes[7]), wire.as_number(place[1]), int.from_bytes(place[2], "big", signed=True))
        if name not in table.chains:
            self._put(table.chains, name, MemoryChain(hook))

    def _new_rule(self, table: MemoryTable, attributes: dict[int, bytes]) -> None:
        chain = table.chains.get(wire.as_text(attributes[2]))
        if chain is None or not complete(table, attributes[4]):
            raise Refused(errno.ENOENT)
        chain.rules.append(attributes[4])
        self._undo.append(chain.rules.pop)

    def _delete_chain(self, table: MemoryTable, attributes: dict[int, bytes]) -> None:
        name = wire.as_text(attributes[3])
        if name not in table.chains:
            raise Refused(errno.ENOENT)
        gone = table.chains.pop(name)
        self._undo.append(lambda: table.chains.__setitem__(name, gone))
        verdicts = (data for held in table.sets.values() if held.verdicts for data in held.elements.values())
        if not self._complete(table) or any(target(data) == name for data in verdicts):
            raise Refused(errno.EBUSY)

    def _delete_set(self, table: MemoryTable, attributes: dict[int, bytes]) -> None:
        name = wire.as_text(attributes[2])
        if name not in table.sets:
            raise Refused(errno.ENOENT)
        self._drop(table.sets, name)
        if not self._complete(table):
            raise Refused(errno.EBUSY)

    @staticmethod
    def _complete(table: MemoryTable) -> bool:
        return all(complete(table, rule) for chain in table.chains.values() for rule in chain.rules)

    def _run_elements(self, table: MemoryTable, message: wire.Message, adding: bool) -> None:
        name = wire.as_text(wire.attributes(message.body)[2])
        held = table.sets.get(name)
        if held is None:
            raise Refused(errno.ENOENT)
        start, end = next((s, e) for kind, s, e in wire.each_attribute(message.body) if kind == _ELEMENTS)
        for _, first, last in wire.each_attribute(message.body, start, end):
            element = wire.attributes(message.body[first:last])
            code = self._element(table, held, element, adding)
            if code:
                raise Refused(code, wire.PREFIX + first - wire.ATTRIBUTE.size)

    def _element(self, table: MemoryTable, held: MemorySet, element: dict[int, bytes], adding: bool) -> int:
        """Puts an element in or takes it out; the errno where that cannot be."""
        key = wire.attributes(element[1]).get(1, b"")
        if len(key) != held.key_size:
            return errno.EINVAL
        return self._add(table, held, key, element) if adding else self._remove(held, key)

    def _remove(self, held: MemorySet, key: bytes) -> int:
        if key not in held.elements:
            return errno.ENOENT
        self._drop(held.elements, key)
        return 0

    def _add(self, table: MemoryTable, held: MemorySet, key: bytes, element: dict[int, bytes]) -> int:
        data = element.get(2, b"")
        if held.flags & objects.INTERVAL:
            return self._add_bound(held, key, elements.END if wire.as_number(element.get(3, b"")) else b"")
        code = unfit(table, held, data)
        if code:
            return code
        if not held.verdicts:
            data = wire.attributes(data).get(1, b"")
        if held.elements.get(key, data) != data:
            return errno.EEXIST
        if key not in held.elements:
            self._put(held.elements, key, data)
        return 0

    def _add_bound(self, held: MemorySet, key: bytes, kind: bytes) -> int:
        if key not in held.elements and not overlaps(held, key, kind):
            self._put(held.elements, key, kind)
        return 0 if held.elements.get(key) == kind else errno.EEXIST

    def _put(self, place: dict, key: object, made: object) -> None:  # type: ignore[type-arg]  # any of the tables above
        place[key] = made
        self._undo.append(lambda: place.pop(key))

    def _drop(self, place: dict, key: object) -> None:  # type: ignore[type-arg]
        gone = place.pop(key)
        self._undo.append(lambda: place.__setitem__(key, gone))


def _chosen(held: MemorySet, attributes: dict[int, bytes]) -> dict[bytes, bytes]:
    """The elements that are asked for: one, or all."""
    if _ELEMENTS not in attributes:
        return held.elements
    ((key, _),) = elements.parse(attributes[_ELEMENTS])
    if key not in held.elements:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    return {key: held.elements[key]}
