"""The rule expressions of the constant program: a statement's nft text and bytes side by side.

A `Statement` is a piece of a rule in nft syntax together with the kernel expressions it compiles to, so that the
program is readable, can be compared with what the stock tool compiles, and can be evaluated by the in-memory kernel.
`program` composes them. Register numbers follow nft: 16-byte registers are 1 to 4, 4-byte ones start at 8 and overlap
them (`linux/netfilter/nf_tables.h`). Expressions are constant, so clarity counts here, not speed.
"""

from __future__ import annotations

import sys
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

from nodeagent.program.nftables import wire

Network = IPv4Network | IPv6Network

NETWORK_HEADER, TRANSPORT_HEADER = 1, 2
EQUAL, NOT_EQUAL = 0, 1
META_MARK, META_L4PROTO = 3, 16
CT_STATE, CT_STATUS = 0, 2
STATE_NEW, STATUS_DNAT = 0x8, 0x20
JUMP, GOTO = -3, -4
DROP = 0
LOCAL_TYPE = 2  # RTN_LOCAL
FULLY_RANDOM = 0x10  # NF_NAT_RANGE_PROTO_RANDOM_FULLY
NFPROTO = {4: 2, 6: 10}


class Expression(NamedTuple):
    """A kernel expression: its name and its attributes."""

    name: str
    data: bytes

    def pack(self) -> bytes:
        return wire.nest(1, wire.text(1, self.name), wire.attribute(2, self.data))


class Statement(NamedTuple):
    """Part of a rule: nft's text for it, and what it compiles to."""

    text: str
    expressions: tuple[Expression, ...]


class Field(NamedTuple):
    """A selector that can be loaded into registers; `number` is where numgen starts its count."""

    text: str
    size: int  # bytes it occupies in a key, padded to 4
    kind: str  # source, destination, protocol, port or number
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


def source(family: int) -> Field:
    return Field(f"{LAYOUTS[family].name} saddr", LAYOUTS[family].width, "source")


def destination(family: int) -> Field:
    return Field(f"{LAYOUTS[family].name} daddr", LAYOUTS[family].width, "destination")


def protocol() -> Field:
    return Field("meta l4proto", 4, "protocol")


def port() -> Field:
    return Field("th dport", 4, "port")


def random(modulus: int, offset: int = 0) -> Field:
    """A random number from `offset` to `offset + modulus - 1`."""
    shift = f" offset {offset}" if offset else ""
    return Field(f"numgen random mod {modulus}{shift}", 4, "number", modulus, offset)


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


def payload(base: int, offset: int, length: int, target: int) -> Expression:
    parts = wire.number(1, target), wire.number(2, base), wire.number(3, offset), wire.number(4, length)
    return Expression("payload", b"".join(parts))


def meta(key: int, target: int) -> Expression:
    return Expression("meta", wire.number(2, key) + wire.number(1, target))


def load(field: Field, family: int, word: int) -> Expression:
    """Loads a selector into the register at `word`."""
    target, layout = register(word), LAYOUTS[family]
    if field.kind == "protocol":
        return meta(META_L4PROTO, target)
    if field.kind == "port":
        return payload(TRANSPORT_HEADER, 2, 2, target)
    if field.kind == "number":
        parts = wire.number(1, target), wire.number(2, field.modulus), wire.number(3, 1), wire.number(4, field.offset)
        return Expression("numgen", b"".join(parts))
    offset = layout.source if field.kind == "source" else layout.destination
    return payload(NETWORK_HEADER, offset, layout.width, target)


def loads(fields: tuple[Field, ...], family: int) -> tuple[Expression, ...]:
    """Loads a concatenation into consecutive registers."""
    words = [sum(field.size for field in fields[:index]) // 4 for index in range(len(fields))]
    return tuple(load(field, family, word) for field, word in zip(fields, words, strict=True))


def joined(fields: tuple[Field, ...]) -> str:
    return " . ".join(field.text for field in fields)


def lookup(name: str, target: int | None = None) -> Expression:
    """Looks register 1 up in a set or map; a map's value goes to `target`, a verdict map's to register 0."""
    parts = [wire.text(1, name), wire.number(2, 1)]
    parts += [] if target is None else [wire.number(3, target)]
    return Expression("lookup", b"".join(parts) + wire.number(5, 0))


def compare(payload: bytes, operation: int = EQUAL) -> Expression:
    return Expression("cmp", wire.number(1, 1) + wire.number(2, operation) + wire.nest(3, value(payload)))


def bitwise(mask: bytes, xor: bytes) -> Expression:
    head = wire.number(1, 1) + wire.number(2, 1) + wire.number(3, len(mask)) + wire.number(6, 0)
    return Expression("bitwise", head + wire.nest(4, value(mask)) + wire.nest(5, value(xor)))


def member(fields: tuple[Field, ...], family: int, name: str) -> Statement:
    """Goes on only where the selectors are in the set."""
    return Statement(f"{joined(fields)} @{name}", (*loads(fields, family), lookup(name)))


def dispatch(fields: tuple[Field, ...], family: int, name: str) -> Statement:
    """Follows the verdict that the map holds for the selectors, if any."""
    return Statement(f"{joined(fields)} vmap @{name}", (*loads(fields, family), lookup(name, 0)))


def translate(fields: tuple[Field, ...], family: int, name: str) -> Statement:
    """Sends the connection to the address and port that the map holds; goes on where it holds none."""
    layout = LAYOUTS[family]
    address, service = register(0), register(layout.width // 4)
    parts = (
        *(wire.number(1, 1), wire.number(2, NFPROTO[family]), wire.number(3, address), wire.number(4, address)),
        *(wire.number(5, service), wire.number(6, service), wire.number(7, 3)),
    )
    nat = Expression("nat", b"".join(parts))
    text = f"dnat {layout.name} to {joined(fields)} map @{name}"
    return Statement(text, (*loads(fields, family), lookup(name, 1), nat))


def inside(field: Field, family: int, network: Network, *, negate: bool = False) -> Statement:
    """Goes on only where the address is in the network (or, negated, is not); compiled as nft does, by whole bytes."""
    layout = LAYOUTS[family]
    offset = layout.source if field.kind == "source" else layout.destination
    packed, length = network.network_address.packed, network.prefixlen
    whole = length % 8 == 0
    size = length // 8 if whole else layout.width
    mask = () if whole else (bitwise(network.netmask.packed, bytes(size)),)
    steps = (payload(NETWORK_HEADER, offset, size, 1), *mask, compare(packed[:size], NOT_EQUAL if negate else EQUAL))
    name = str(network.network_address) if length == network.max_prefixlen else str(network)
    return Statement(f"{field.text} {'!= ' if negate else ''}{name}", steps)


def connection(key: str, name: str) -> Statement:
    """Goes on only for connections in this state (`state new`) or with this status (`status dnat`)."""
    number, bits = (CT_STATE, STATE_NEW) if key == "state" else (CT_STATUS, STATUS_DNAT)
    track = Expression("ct", wire.number(1, 1) + wire.number(2, number))
    return Statement(f"ct {key} {name}", (track, bitwise(host32(bits), bytes(4)), compare(bytes(4), NOT_EQUAL)))


def marked(bit: int) -> Statement:
    """Goes on only where the packet's mark has this bit."""
    steps = (meta(META_MARK, 1), bitwise(host32(bit), bytes(4)), compare(bytes(4), NOT_EQUAL))
    return Statement(f"meta mark & 0x{bit:08x} != 0x00000000", steps)


def mark(bit: int) -> Statement:
    """Sets a bit of the packet's mark."""
    steps = (meta(META_MARK, 1), bitwise(host32(~bit & 0xFFFFFFFF), host32(bit)), set_mark())
    return Statement(f"meta mark set meta mark | 0x{bit:08x}", steps)


def unmark(bit: int) -> Statement:
    """Clears a bit of the packet's mark."""
    rest = ~bit & 0xFFFFFFFF
    return Statement(
        f"meta mark set meta mark & 0x{rest:08x}", (meta(META_MARK, 1), bitwise(host32(rest), bytes(4)), set_mark())
    )


def set_mark() -> Expression:
    return Expression("meta", wire.number(2, META_MARK) + wire.number(3, 1))


def from_this_node() -> Statement:
    """Goes on only for packets whose source address is this node's own."""
    fib = Expression("fib", wire.number(1, 1) + wire.number(2, 3) + wire.number(3, 1))
    return Statement("fib saddr type local", (fib, compare(host32(LOCAL_TYPE))))


def branch(code: int, chain: str) -> Statement:
    data = wire.nest(2, verdict(code, chain))
    return Statement(
        f"{'jump' if code == JUMP else 'goto'} {chain}", (Expression("immediate", wire.number(1, 0) + data),)
    )


def jump(chain: str) -> Statement:
    return branch(JUMP, chain)


def goto(chain: str) -> Statement:
    return branch(GOTO, chain)


def reject(family: int) -> Statement:
    """Refuses with ICMP port unreachable, for every protocol."""
    data = wire.number(1, 0) + wire.number8(2, LAYOUTS[family].unreachable)
    return Statement("reject", (Expression("reject", data),))


def masquerade() -> Statement:
    return Statement("masquerade fully-random", (Expression("masq", wire.number(1, FULLY_RANDOM)),))
