"""Packet traces on the in-memory kernel: every way a new connection can go through the rules that were sent to it.

Evaluates the expressions' bytes, not our idea of them. Random numbers are followed in all their values, so a trace
names every endpoint a connection may reach. Called by tests and experiments only.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import NamedTuple

from nodeagent.linux.netlink import wire
from nodeagent.linux.nft import elements
from nodeagent.linux.nft.expressions import (
    CT_STATE,
    LAYOUTS,
    LOCAL_TYPE,
    META_IIFNAME,
    META_L4PROTO,
    META_MARK,
    META_PRIORITY,
    NFPROTO,
    STATE_NEW,
    STATUS_DNAT,
    TRANSPORT_HEADER,
    host32,
)
from nodeagent.linux.nft.objects import INTERVAL
from tests.fakes.nftables.memory import MemoryKernel
from tests.fakes.nftables.tables import MemorySet, MemoryTable

PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING = range(5)
NEXT, CONTINUE, ACCEPT, DROP, REJECT = "next", "continue", "accept", "drop", "reject"


class Packet(NamedTuple):
    """The first packet of a connection on its way."""

    source: bytes
    destination: bytes
    protocol: int
    port: int
    mark: int = 0
    translated: bool = False
    masqueraded: bool = False
    interface: str = ""  # where it came in; our own packets have none
    priority: int = 0


Outcome = tuple[str, Packet]  # what a rule, chain or hook makes of a packet


class Trace(NamedTuple):
    """Where a connection may end: endpoints with whether it is masqueraded, or the verdicts that stop it."""

    ends: frozenset[tuple[bytes, int, bool]]
    stopped: frozenset[str]


def trace(kernel: MemoryKernel, packet: Packet, *, node: Iterable[bytes] = (), table: str = "deltaplane") -> Trace:
    """Follows a packet. `node` are the node's own addresses: from one of them it is sent, to one of them delivered."""
    family = 4 if len(packet.source) == 4 else 6
    held = kernel.tables.get((NFPROTO[family], table)) or MemoryTable(b"")
    run = _Run(held, family, frozenset(node))
    outcomes = {(ACCEPT, packet)}
    if packet.source in run.node:
        outcomes = run.hooks((OUTPUT, POSTROUTING), outcomes)
    else:
        outcomes = run.hooks((PREROUTING,), outcomes)
        here = {outcome for outcome in outcomes if outcome[1].destination in run.node}
        outcomes = run.hooks((INPUT,), here) | run.hooks((FORWARD, POSTROUTING), outcomes - here)
    ends = {(p.destination, p.port, p.masqueraded) for verdict, p in outcomes if verdict == ACCEPT}
    return Trace(frozenset(ends), frozenset(verdict for verdict, _ in outcomes if verdict != ACCEPT))


class _Run:
    """One evaluation over one table."""

    def __init__(self, table: MemoryTable, family: int, node: frozenset[bytes]) -> None:
        self.table, self.family, self.node = table, family, node

    def hooks(self, numbers: Iterable[int], outcomes: set[Outcome]) -> set[Outcome]:
        """Through every base chain of these hooks, by priority."""
        for number in numbers:
            found = [
                (chain.hook[2], name)
                for name, chain in self.table.chains.items()
                if chain.hook and chain.hook[1] == number
            ]
            for _, name in sorted(found):
                going = [packet for verdict, packet in outcomes if verdict == ACCEPT]
                outcomes = {outcome for outcome in outcomes if outcome[0] != ACCEPT}
                for packet in going:
                    outcomes |= {(ACCEPT if v == CONTINUE else v, p) for v, p in self.chain(name, packet)}
        return outcomes

    def chain(self, name: str, packet: Packet) -> set[Outcome]:
        """What a chain makes of a packet; `continue` where it falls off the end."""
        ends: set[Outcome] = set()
        going = {packet}
        for rule in self.table.chains[name].rules:
            after: set[Packet] = set()
            for verdict, changed in {o for p in going for o in _Rule(self, rule).run(p)}:
                if verdict == NEXT:
                    after.add(changed)
                elif verdict.startswith("jump "):
                    inner = self.chain(verdict[5:], changed)
                    after |= {p for v, p in inner if v == CONTINUE}
                    ends |= {o for o in inner if o[0] != CONTINUE}
                elif verdict.startswith("goto "):
                    ends |= self.chain(verdict[5:], changed)
                else:
                    ends.add((verdict, changed))
            going = after
        return ends | {(CONTINUE, p) for p in going}


class _Rule:
    """One rule's expressions over a packet, with registers of its own."""

    def __init__(self, run: _Run, rule: bytes) -> None:
        self._run = run
        parts = [wire.attributes(expression) for expression in wire.payloads(rule, 1)]
        self._steps = [(wire.as_text(part[1]), wire.attributes(part.get(2, b""))) for part in parts]

    def run(self, packet: Packet) -> set[Outcome]:
        return self._from(0, packet, bytes(80))

    def _from(self, index: int, packet: Packet, registers: bytes) -> set[Outcome]:
        for position in range(index, len(self._steps)):
            name, data = self._steps[position]
            if name == "numgen":
                values = range(wire.as_number(data[2]))
                drawn = (_store(registers, data[1], host32(value + wire.as_number(data[4]))) for value in values)
                return {outcome for filled in drawn for outcome in self._from(position + 1, packet, filled)}
            verdict, packet, registers = getattr(self, f"_{name}")(data, packet, registers)
            if verdict:
                return {(verdict, packet)}
        return {(NEXT, packet)}

    def _payload(self, data: dict[int, bytes], packet: Packet, registers: bytes) -> tuple[str, Packet, bytes]:
        offset, length = wire.as_number(data[3]), wire.as_number(data[4])
        if wire.as_number(data[2]) == TRANSPORT_HEADER:
            header = b"\0\0" + packet.port.to_bytes(2, "big")
        else:
            header = bytes(LAYOUTS[self._run.family].source) + packet.source + packet.destination
        return "", packet, _store(registers, data[1], header[offset : offset + length])

    def _meta(self, data: dict[int, bytes], packet: Packet, registers: bytes) -> tuple[str, Packet, bytes]:
        key = wire.as_number(data[2])
        if 3 in data:
            value = int.from_bytes(_load(registers, data[3], 4), sys.byteorder)
            return "", _with_meta(packet, key, value), registers
        values = {
            META_L4PROTO: bytes((packet.protocol,)),
            META_MARK: host32(packet.mark),
            META_PRIORITY: host32(packet.priority),
            META_IIFNAME: packet.interface.encode().ljust(16, b"\0"),
        }
        return "", packet, _store(registers, data[1], values[key])

    def _ct(self, data: dict[int, bytes], packet: Packet, registers: bytes) -> tuple[str, Packet, bytes]:
        state = wire.as_number(data[2]) == CT_STATE
        value = STATE_NEW if state else STATUS_DNAT * packet.translated
        return "", packet, _store(registers, data[1], host32(value))

    def _fib(self, data: dict[int, bytes], packet: Packet, registers: bytes) -> tuple[str, Packet, bytes]:
        address = packet.source if wire.as_number(data[3]) == 1 else packet.destination
        return "", packet, _store(registers, data[1], host32(LOCAL_TYPE if address in self._run.node else 1))

    def _bitwise(self, data: dict[int, bytes], packet: Packet, registers: bytes) -> tuple[str, Packet, bytes]:
        mask, xor = wire.attributes(data[4])[1], wire.attributes(data[5])[1]
        loaded = _load(registers, data[1], len(mask))
        value = bytes(a & m ^ x for a, m, x in zip(loaded, mask, xor, strict=True))
        return "", packet, _store(registers, data[2], value)

    def _cmp(self, data: dict[int, bytes], packet: Packet, registers: bytes) -> tuple[str, Packet, bytes]:
        value = wire.attributes(data[3])[1]
        equal = _load(registers, data[1], len(value)) == value
        return "" if equal != bool(wire.as_number(data[2])) else NEXT, packet, registers

    def _lookup(self, data: dict[int, bytes], packet: Packet, registers: bytes) -> tuple[str, Packet, bytes]:
        held = self._run.table.sets[wire.as_text(data[1])]
        found = _find(held, _load(registers, data[2], held.key_size))
        if (found is None) != bool(wire.as_number(data[5])):
            return NEXT, packet, registers
        if found is None or not held.verdicts:
            return "", packet, _store(registers, data[3], found) if found is not None and 3 in data else registers
        return _verdict(found), packet, registers

    def _dynset(self, data: dict[int, bytes], packet: Packet, registers: bytes) -> tuple[str, Packet, bytes]:
        """What packets write is not written here: a trace is of one connection, and changes nothing."""
        return "", packet, registers

    def _immediate(self, data: dict[int, bytes], packet: Packet, registers: bytes) -> tuple[str, Packet, bytes]:
        return _verdict(data[2]), packet, registers

    def _nat(self, data: dict[int, bytes], packet: Packet, registers: bytes) -> tuple[str, Packet, bytes]:
        address = _load(registers, data[3], LAYOUTS[self._run.family].width)
        port = int.from_bytes(_load(registers, data[5], 2), "big")
        return ACCEPT, packet._replace(destination=address, port=port, translated=True), registers

    def _masq(self, data: dict[int, bytes], packet: Packet, registers: bytes) -> tuple[str, Packet, bytes]:
        return ACCEPT, packet._replace(masqueraded=True), registers

    def _reject(self, data: dict[int, bytes], packet: Packet, registers: bytes) -> tuple[str, Packet, bytes]:
        return REJECT, packet, registers


def _with_meta(packet: Packet, key: int, value: int) -> Packet:
    return packet._replace(mark=value) if key == META_MARK else packet._replace(priority=value)


def _find(held: MemorySet, key: bytes) -> bytes | None:
    """A set's element; in an interval set, that of the range around the key."""
    if not held.flags & INTERVAL:
        return held.elements.get(key)
    below = max((bound for bound in held.elements if bound <= key), default=None)
    return None if below is None or held.elements[below] == elements.END else held.elements[below]


def _verdict(data: bytes) -> str:
    parts = wire.attributes(wire.attributes(data)[2])
    code = int.from_bytes(parts[1], "big", signed=True)
    if code == 0:
        return DROP
    name = elements.verdict_name(data)
    return f"{'jump' if code == -3 else 'goto'} {name}"


def _position(register: bytes) -> int:
    number = wire.as_number(register)
    return (number - 1) * 16 if number < 8 else (number - 8) * 4


def _store(registers: bytes, register: bytes, value: bytes) -> bytes:
    start, padded = _position(register), value + bytes(-len(value) % 4)
    return registers[:start] + padded + registers[start + len(padded) :]


def _load(registers: bytes, register: bytes, size: int) -> bytes:
    start = _position(register)
    return registers[start : start + size]
