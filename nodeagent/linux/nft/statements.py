"""Statements: the pieces of which rules are made, nft text and bytes side by side.

A `Statement` is a piece of a rule in nft syntax together with the kernel expressions it compiles to, so that the
program is readable, can be compared with what the stock tool compiles, and can be evaluated by the in-memory kernel.
`program` and `shared` compose them.
"""

from __future__ import annotations

from typing import NamedTuple

from nodeagent.linux import text as named
from nodeagent.linux.netlink import wire
from nodeagent.linux.nft.expressions import (
    CT_STATE,
    CT_STATUS,
    DELETE,
    DROP,
    EQUAL,
    FULLY_RANDOM,
    GOTO,
    JUMP,
    LAYOUTS,
    LOCAL_TYPE,
    META_IIFNAME,
    META_L4PROTO,
    META_MARK,
    META_PRIORITY,
    NETWORK_HEADER,
    NFPROTO,
    NOT_EQUAL,
    STATE_INVALID,
    STATE_NEW,
    STATUS_DNAT,
    UPDATE,
    Expression,
    Field,
    Network,
    bitwise,
    compare,
    dynamic,
    host32,
    joined,
    loads,
    lookup,
    meta,
    payload,
    register,
    source,
    verdict,
)

_TCP = 6
_INTERFACE_SIZE = 16  # IFNAMSIZ


class Statement(NamedTuple):
    """Part of a rule: nft's text for it, and what it compiles to."""

    text: str
    expressions: tuple[Expression, ...]


def member(fields: tuple[Field, ...], family: int, name: str) -> Statement:
    """Goes on only where the selectors are in the set."""
    return Statement(f"{joined(fields)} @{name}", (*loads(fields, family), lookup(name)))


def stranger(fields: tuple[Field, ...], family: int, name: str) -> Statement:
    """Goes on only where the selectors are not in the set."""
    return Statement(f"{joined(fields)} != @{name}", (*loads(fields, family), lookup(name, negate=True)))


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
    steps = (payload(NETWORK_HEADER, offset, size, 1), *mask, compare(packed[:size], _operation(negate)))
    name = str(network.network_address) if length == network.max_prefixlen else str(network)
    return Statement(f"{field.text} {'!= ' if negate else ''}{name}", steps)


def arrives_at(interface: str, *, negate: bool = False) -> Statement:
    """Goes on only for packets from this interface, or (`veth*`) from any whose name begins so; never for our own."""
    prefix = named.interface(interface).endswith("*")
    name = interface.rstrip("*").encode() if prefix else interface.encode().ljust(_INTERFACE_SIZE, b"\0")
    text = f'iifname {"!= " if negate else ""}"{interface}"'
    return Statement(text, (meta(META_IIFNAME, 1), compare(name, _operation(negate))))


def _operation(negate: bool) -> int:
    return NOT_EQUAL if negate else EQUAL


_CONNECTIONS = {
    ("state", "new"): (CT_STATE, STATE_NEW),
    ("state", "invalid"): (CT_STATE, STATE_INVALID),
    ("status", "dnat"): (CT_STATUS, STATUS_DNAT),
}


def connection(key: str, name: str) -> Statement:
    """Goes on only for packets in this state (`state new`, `state invalid`) or with this status (`status dnat`)."""
    number, bits = _CONNECTIONS[key, name]
    track = Expression("ct", wire.number(1, 1) + wire.number(2, number))
    return Statement(f"ct {key} {name}", (track, bitwise(host32(bits), bytes(4)), compare(bytes(4), NOT_EQUAL)))


def marked(bit: int) -> Statement:
    """Goes on only where the packet's mark has this bit."""
    steps = (meta(META_MARK, 1), bitwise(host32(bit), bytes(4)), compare(bytes(4), NOT_EQUAL))
    return Statement(f"meta mark & 0x{bit:08x} != 0x00000000", steps)


def mark(bit: int) -> Statement:
    """Sets a bit of the packet's mark."""
    steps = (meta(META_MARK, 1), bitwise(host32(~bit & 0xFFFFFFFF), host32(bit)), _set_meta(META_MARK))
    return Statement(f"meta mark set meta mark | 0x{bit:08x}", steps)


def unmark(bit: int) -> Statement:
    """Clears a bit of the packet's mark."""
    rest = ~bit & 0xFFFFFFFF
    steps = (meta(META_MARK, 1), bitwise(host32(rest), bytes(4)), _set_meta(META_MARK))
    return Statement(f"meta mark set meta mark & 0x{rest:08x}", steps)


def prioritise(fields: tuple[Field, ...], family: int, name: str) -> Statement:
    """Keeps the map's value as the packet's priority, where later statements find it; goes on where there is one."""
    steps = (*loads(fields, family), lookup(name, 1), _set_meta(META_PRIORITY))
    return Statement(f"meta priority set {joined(fields)} map @{name}", steps)


def remember(family: int, name: str, seconds: int) -> Statement:
    """Notes the packet's priority under its source address, for so long from now; an older note stays as it is."""
    steps = (*loads((source(family),), family), meta(META_PRIORITY, 2), dynamic(name, UPDATE, seconds * 1000))
    return Statement(f"update @{name} {{ {source(family).text} timeout {seconds}s : meta priority }}", steps)


def note(fields: tuple[Field, ...], family: int, name: str, seconds: int) -> Statement:
    """Keeps the selectors in the set for so long from now; goes on in any case, also where the set is full."""
    steps = (*loads(fields, family), dynamic(name, UPDATE, seconds * 1000, value=False))
    return Statement(f"update @{name} {{ {joined(fields)} timeout {seconds}s }}", steps)


def forget(family: int, name: str) -> Statement:
    """Takes the note of the packet's source address away; goes on in any case."""
    steps = (*loads((source(family),), family), meta(META_PRIORITY, 2), dynamic(name, DELETE))
    return Statement(f"delete @{name} {{ {source(family).text} : meta priority }}", steps)


def _set_meta(key: int) -> Expression:
    return Expression("meta", wire.number(2, key) + wire.number(3, 1))


def from_this_node() -> Statement:
    """Goes on only for packets whose source address is this node's own."""
    return Statement("fib saddr type local", _address_type(1))


def to_this_node() -> Statement:
    """Goes on only for packets to any of this node's own addresses."""
    return Statement("fib daddr type local", _address_type(2))


def _address_type(selector: int) -> tuple[Expression, ...]:
    fib = Expression("fib", wire.number(1, 1) + wire.number(2, 3) + wire.number(3, selector))
    return fib, compare(host32(LOCAL_TYPE))


def branch(code: int, chain: str) -> Statement:
    data = wire.nest(2, verdict(code, chain))
    text = "drop" if code == DROP else f"{'jump' if code == JUMP else 'goto'} {chain}"
    return Statement(text, (Expression("immediate", wire.number(1, 0) + data),))


def jump(chain: str) -> Statement:
    return branch(JUMP, chain)


def goto(chain: str) -> Statement:
    return branch(GOTO, chain)


def drop() -> Statement:
    return branch(DROP, "")


def reject(family: int) -> Statement:
    """Refuses with ICMP port unreachable, for every protocol."""
    data = wire.number(1, 0) + wire.number8(2, LAYOUTS[family].unreachable)
    return Statement("reject", (Expression("reject", data),))


def reset() -> Statement:
    """Refuses TCP with a reset; goes on for other protocols."""
    only = meta(META_L4PROTO, 1), compare(bytes((_TCP,)))
    data = wire.number(1, 1) + wire.number8(2, 0)
    return Statement("meta l4proto tcp reject with tcp reset", (*only, Expression("reject", data)))


def masquerade() -> Statement:
    return Statement("masquerade fully-random", (Expression("masq", wire.number(1, FULLY_RANDOM)),))
