"""Tables, chains, rules, sets and maps as values, each with its nft text and its netlink attributes.

`program` declares them, `transaction` sends them. Attribute numbers are those of `linux/netfilter/nf_tables.h`. The
user data of sets is what nft itself stores (libnftnl `NFTNL_UDATA_SET_*`): without it a stock `nft list` cannot show
keys by `typeof`. Sent once, with the program.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import pack
from typing import NamedTuple

from nodeagent.linux.netlink import wire
from nodeagent.linux.nft.expressions import META_KEYS, Field
from nodeagent.linux.nft.ranges import Range
from nodeagent.linux.nft.statements import Statement

NEW_TABLE, GET_TABLE, DELETE_TABLE = 0, 1, 2
NEW_CHAIN, GET_CHAIN, DELETE_CHAIN = 3, 4, 5
NEW_RULE, GET_RULE, DELETE_RULE = 6, 7, 8
NEW_SET, GET_SET, DELETE_SET = 9, 10, 11
NEW_ELEMENT, GET_ELEMENT, DELETE_ELEMENT = 12, 13, 14
NEW_GENERATION, GET_GENERATION = 15, 16

INTERVAL, MAP, TIMEOUT, DYNAMIC = 0x4, 0x8, 0x10, 0x20  # NFT_SET_*
VERDICT_TYPE = 0xFFFFFF00
_FLAG_NAMES = {INTERVAL: "interval", DYNAMIC: "dynamic", TIMEOUT: "timeout"}
_CONCATENATION, _PAYLOAD, _META, _NUMGEN, _VERDICT = 13, 7, 9, 23, 1  # nft's expression numbers in user data


class Table(NamedTuple):
    """A table of one family; `comment` is what `nft list` shows as its comment."""

    family: int
    name: str
    comment: str = ""

    def attributes(self) -> bytes:
        note = _record(0, self.comment.encode() + b"\0") if self.comment else b""
        return wire.text(1, self.name) + wire.number(2, 0) + (wire.attribute(6, note) if note else b"")


class Hook(NamedTuple):
    """Where a base chain is attached."""

    type: str
    hook: str
    priority: int

    @property
    def text(self) -> str:
        return f"type {self.type} hook {self.hook} priority {self.priority}; policy accept;"


HOOKS = {"prerouting": 0, "input": 1, "forward": 2, "output": 3, "postrouting": 4}


class Rule(NamedTuple):
    """Statements evaluated in order until one does not match."""

    statements: tuple[Statement, ...]

    @property
    def text(self) -> str:
        return " ".join(statement.text for statement in self.statements)

    def attributes(self, table: str, chain: str) -> bytes:
        packed = b"".join(e.pack() for statement in self.statements for e in statement.expressions)
        return wire.text(1, table) + wire.text(2, chain) + wire.nest(4, packed)


def rule(*statements: Statement) -> Rule:
    return Rule(statements)


class Chain(NamedTuple):
    name: str
    rules: tuple[Rule, ...]
    hook: Hook | None = None

    def attributes(self, table: str) -> bytes:
        names = wire.text(1, table) + wire.text(3, self.name)
        if self.hook is None:
            return names
        place = wire.nest(4, wire.number(1, HOOKS[self.hook.hook]), wire.number(2, self.hook.priority))
        return names + place + wire.number(5, 1) + wire.text(7, self.hook.type)

    def lines(self) -> Iterator[str]:
        yield f"chain {self.name} {{"
        yield from ("\t" + line.text for line in ((self.hook,) if self.hook else ()) + self.rules)
        yield "}"


class Set(NamedTuple):
    """A set, or a map where `data` is given: the fields of its value, or "verdict"."""

    name: str
    key: tuple[Field, ...]
    data: tuple[Field, ...] | str = ()
    flags: int = 0  # besides MAP
    ranges: tuple[Range, ...] = ()  # what an interval set holds from the start

    @property
    def key_size(self) -> int:
        return sum(field.size for field in self.key)

    def attributes(self, table: str, family: int, identity: int) -> bytes:
        names = wire.text(1, table) + wire.text(2, self.name)
        flags = wire.number(3, self.flags | (MAP if self.data else 0))
        key = wire.number(4, _type(self.key, family)) + wire.number(5, self.key_size)
        return (
            names
            + flags
            + key
            + self._data(family)
            + wire.number(10, identity)
            + wire.attribute(13, self._note(family))
        )

    def _data(self, family: int) -> bytes:
        if isinstance(self.data, str):
            return wire.number(6, VERDICT_TYPE) + wire.number(7, 16)
        size = sum(field.size for field in self.data)
        return wire.number(6, _type(self.data, family)) + wire.number(7, size) if self.data else b""

    def _note(self, family: int) -> bytes:
        """What nft keeps of the declaration: byte orders and the `typeof` of key and value."""
        typeof = _record(3, _typeof(self.key, family))
        if not self.data:
            return _word(0, _byte_order(self.key)) + typeof
        value = _word(0, _VERDICT) + _record(1, b"") if isinstance(self.data, str) else _typeof(self.data, family)
        orders = _word(0, _byte_order(self.key)) + _word(1, _byte_order(self.data))
        return orders + typeof + _record(4, value) + _word(6, 0)

    def lines(self) -> Iterator[str]:
        value = self.data if isinstance(self.data, str) else " . ".join(field.text for field in self.data)
        yield f"{'map' if self.data else 'set'} {self.name} {{"
        yield f"\ttypeof {' . '.join(field.text for field in self.key)}{f' : {value}' if value else ''}"
        if self.flags:
            yield "\tflags " + ",".join(name for bit, name in _FLAG_NAMES.items() if self.flags & bit)
        if self.ranges:
            yield f"\telements = {{ {', '.join(found.text for found in self.ranges)} }}"
        yield "}"


def _byte_order(fields: tuple[Field, ...] | str) -> int:
    """nft's word for it: nothing for concatenations and verdicts, 1 is the host's, 2 the network's."""
    if isinstance(fields, str) or len(fields) != 1:
        return 0
    return 1 if fields[0].kind in ("priority", "protocol") else 2


def _record(kind: int, payload: bytes) -> bytes:
    return bytes((kind, len(payload))) + payload


def _word(kind: int, value: int) -> bytes:
    return _record(kind, pack("=I", value))


def _type(fields: tuple[Field, ...], family: int) -> int:
    """nft's number for a data type; concatenations take six bits for each part."""
    address = 7 if family == 4 else 8
    numbers = {"source": address, "destination": address, "protocol": 12, "port": 13, "number": 4, "priority": 23}
    result = 0
    for field in fields:
        result = result << 6 | numbers[field.kind]
    return result


def _typeof(fields: tuple[Field, ...], family: int) -> bytes:
    parts = [_selector(field, family) for field in fields]
    if len(parts) == 1:
        return parts[0]
    listed = b"".join(_record(index, part) for index, part in enumerate(parts))
    return _word(0, _CONCATENATION) + _record(1, listed)


def _selector(field: Field, family: int) -> bytes:
    if field.kind in META_KEYS:
        return _word(0, _META) + _record(1, _word(0, META_KEYS[field.kind]))
    if field.kind == "number":
        return _word(0, _NUMGEN) + _record(1, _word(0, 1) + _word(1, field.modulus) + _word(2, field.offset))
    # Header descriptions and field numbers are nft's own (include/proto.h): th dport, and the address of the IP header.
    header, number = {
        ("port", 4): (11, 2),
        ("port", 6): (11, 2),
        ("source", 4): (12, 11),
        ("destination", 4): (12, 12),
        ("source", 6): (13, 8),
        ("destination", 6): (13, 9),
    }[field.kind, family]
    return _word(0, _PAYLOAD) + _record(1, _word(0, header) + _word(1, number))
