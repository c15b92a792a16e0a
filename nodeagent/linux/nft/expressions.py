"""The kernel's rule expressions and the selectors that load registers, as bytes and nft text.

`statements` composes them into pieces of rules. Register numbers follow nft: 16-byte registers are 1 to 4, 4-byte
ones start at 8 and overlap them (`linux/netfilter/nf_tables.h`). Expressions are constant: clarity counts.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

from nodeagent.linux.netlink import wire

Network = IPv4Network | IPv6Network

NETWORK_HEADER, TRANSPORT_HEADER = 1, 2
EQUAL, NOT_EQUAL = 0, 1
META_PRIORITY, META_MARK, META_IIFNAME, META_L4PROTO = 2, 3, 6, 16
CT_STATE, CT_STATUS = 0, 2
STATE_INVALID, STATE_NEW, STATUS_DNAT = 0x1, 0x8, 0x20  # NF_CT_STATE_*, IPS_DST_NAT
JUMP, GOTO = -3, -4
DROP = 0
UPDATE, DELETE = 1, 2  # NFT_DYNSET_OP_*
LOCAL_TYPE = 2  # RTN_LOCAL
META_KEYS = {"protocol": META_L4PROTO, "priority": META_PRIORITY}
FULLY_RANDOM = 0x10  # NF_NAT_RANGE_PROTO_RANDOM_FULLY
NFPROTO = {4: 2, 6: 10}
INET = 1  # NFPROTO_INET


class Expression(NamedTuple):
    """A kernel expression: its name and its attributes."""

    name: str
    data: bytes

    @lru_cache(1024)  # noqa: B019 - a value, of which a program has a few hundred different ones
    def pack(self) -> bytes:
        return wire.nest(1, wire.text(1, self.name), wire.attribute(2, self.data))


class Field(NamedTuple):
    """A selector that can be loaded into registers; `number` is where numgen starts its count."""

    text: str
    size: int  # bytes it occupies in a key, padded to 4
    kind: str  # source, destination, protocol, port, source port, number or priority
    modulus: int = 0
    offset: int = 0


class FamilyLayout(NamedTuple):
    """What differs between IPv4 and IPv6 in headers and names."""

    name: str
    width: int
    source: int
    destination: int
    unreachable: int  # the ICMP code of port unreachable


LAYOUTS = {4: FamilyLayout("ip", 4, 12, 16, 3), 6: FamilyLayout("ip6", 16, 8, 24, 4)}
FAMILY_NAMES = {INET: "inet", **{NFPROTO[family]: layout.name for family, layout in LAYOUTS.items()}}


def source(family: int) -> Field:
    return Field(f"{LAYOUTS[family].name} saddr", LAYOUTS[family].width, "source")


def destination(family: int) -> Field:
    return Field(f"{LAYOUTS[family].name} daddr", LAYOUTS[family].width, "destination")


def protocol(size: int = 4) -> Field:
    """`size` is 1 where the protocol is a key of its own."""
    return Field("meta l4proto", size, "protocol")


def port() -> Field:
    return Field("th dport", 4, "port")


def source_port() -> Field:
    return Field("th sport", 4, "source port")


def random(modulus: int, offset: int = 0) -> Field:
    """A random number from `offset` to `offset + modulus - 1`."""
    shift = f" offset {offset}" if offset else ""
    return Field(f"numgen random mod {modulus}{shift}", 4, "number", modulus, offset)


def priority() -> Field:
    """The packet's queueing priority; `shared` says what it is used for."""
    return Field("meta priority", 4, "priority")


def register(word: int) -> int:
    """The number nft gives to the register that starts at this 4-byte word."""
    return 1 + word // 4 if word % 4 == 0 else 8 + word


def host32(value: int) -> bytes:
    """A 32-bit register value: marks, states and slots are in host byte order."""
    return value.to_bytes(4, sys.byteorder)


def value(payload: bytes) -> bytes:
    """`NFTA_DATA_VALUE`."""
    return wire.attribute(1, payload)


def verdict(code: int, chain: str = "") -> bytes:
    """`NFTA_DATA_VERDICT`; a jump or goto names its chain."""
    return wire.nest(2, wire.number(1, code), wire.text(2, chain) if chain else b"")


def read_verdict(body: bytes) -> tuple[int, str]:
    """The code of an `NFTA_DATA_VERDICT`, negative where it is nf_tables' own, and the chain of a jump or goto."""
    given = wire.attributes(body)
    return int.from_bytes(given.get(1, b""), "big", signed=True), wire.as_text(given.get(2, b""))


def payload(base: int, offset: int, length: int, target: int) -> Expression:
    parts = wire.number(1, target), wire.number(2, base), wire.number(3, offset), wire.number(4, length)
    return Expression("payload", b"".join(parts))


def meta(key: int, target: int) -> Expression:
    return Expression("meta", wire.number(2, key) + wire.number(1, target))


def load(field: Field, family: int, word: int) -> Expression:
    """Loads a selector into the register at `word`."""
    target, layout = register(word), LAYOUTS[family]
    if field.kind in META_KEYS:
        return meta(META_KEYS[field.kind], target)
    if field.kind in ("port", "source port"):
        return payload(TRANSPORT_HEADER, 2 if field.kind == "port" else 0, 2, target)
    if field.kind == "number":
        parts = wire.number(1, target), wire.number(2, field.modulus), wire.number(3, 1), wire.number(4, field.offset)
        return Expression("numgen", b"".join(parts))
    offset = layout.source if field.kind == "source" else layout.destination
    return payload(NETWORK_HEADER, offset, layout.width, target)


@lru_cache(256)  # a program of two families loads some sixty different ones, two thousand times
def loads(fields: tuple[Field, ...], family: int) -> tuple[Expression, ...]:
    """Loads a concatenation into consecutive registers."""
    words = [sum(field.size for field in fields[:index]) // 4 for index in range(len(fields))]
    return tuple(load(field, family, word) for field, word in zip(fields, words, strict=True))


def joined(fields: tuple[Field, ...]) -> str:
    return " . ".join(field.text for field in fields)


def lookup(name: str, target: int | None = None, *, negate: bool = False) -> Expression:
    """Looks register 1 up in a set or map; a map's value goes to `target`, a verdict map's to register 0."""
    parts = [wire.text(1, name), wire.number(2, 1)]
    parts += [] if target is None else [wire.number(3, target)]
    return Expression("lookup", b"".join(parts) + wire.number(5, negate))


def compare(payload: bytes, operation: int = EQUAL) -> Expression:
    return Expression("cmp", wire.number(1, 1) + wire.number(2, operation) + wire.nest(3, value(payload)))


def bitwise(mask: bytes, xor: bytes) -> Expression:
    head = wire.number(1, 1) + wire.number(2, 1) + wire.number(3, len(mask)) + wire.number(6, 0)
    return Expression("bitwise", head + wire.nest(4, value(mask)) + wire.nest(5, value(xor)))


def dynamic(name: str, operation: int, timeout: int = 0, *, value: bool = True) -> Expression:
    """Changes the element whose key is in register 1 and whose value, in a map, is in register 2; milliseconds."""
    parts = [wire.text(1, name), wire.number(3, operation), wire.number(4, 1)]
    parts += [wire.number(5, 2)] if value else []
    return Expression("dynset", b"".join(parts) + (wire.number64(6, timeout) if timeout else b""))
