"""Packet traces on the in-memory iptables: every way a new connection can go through the rules that were sent to it.

Evaluates the rules' text, not our idea of them; a word it does not know is an error. Chance is followed both ways, so
a trace names every endpoint a connection may reach. Called by tests and experiments only.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from functools import lru_cache
from ipaddress import ip_address, ip_network

from deltaplane.model import PROTOCOL_NUMBERS
from nodeagent.dataplane.iptables import naming as n
from tests.fakes.iptables.memory import MemoryIptables
from tests.fakes.nftables.trace import Packet, Trace

_SKIPPED = {
    "--comment": 1,
    "--name": 1,
    "--mask": 1,
    "--rsource": 0,
    "--seconds": 1,
    "--reap": 0,
    "--mode": 1,
    "--nfacct-name": 1,
}


Outcome = tuple[str, Packet]  # what a rule or chain makes of a packet
_NEXT, _ACCEPT, _RETURN = "next", "accept", "return"
Option = tuple[str, tuple[str, ...], bool]  # its name, its values, whether it is negated


def trace(kernel: MemoryIptables, packet: Packet, *, node: Iterable[bytes] = ()) -> Trace:
    """Follows a packet. `node` are the node's own addresses: from one of them it is sent, to one of them delivered."""
    run = _Run(kernel, 4 if len(packet.source) == 4 else 6, frozenset(node))
    if packet.source in run.node:
        steps = run.hooks([(_ACCEPT, packet)], (n.NAT, "OUTPUT"), (n.FILTER, "OUTPUT"), (n.NAT, "POSTROUTING"))
    else:
        steps = set()
        for verdict, p in run.hooks([(_ACCEPT, packet)], (n.NAT, "PREROUTING")):
            if p.destination in run.node:
                steps |= run.hooks([(verdict, p)], (n.FILTER, "INPUT"), (n.NAT, "INPUT"))
            else:
                steps |= run.hooks([(verdict, p)], (n.FILTER, "FORWARD"), (n.NAT, "POSTROUTING"))
    ends = {(p.destination, p.port, p.masqueraded) for verdict, p in steps if verdict == _ACCEPT}
    return Trace(frozenset(ends), frozenset(verdict for verdict, _ in steps if verdict != _ACCEPT))


class _Run:
    """One evaluation over one family's tables."""

    def __init__(self, kernel: MemoryIptables, family: int, node: frozenset[bytes]) -> None:
        self.kernel, self.family, self.node = kernel, family, node

    def hooks(self, outcomes: Iterable[Outcome], *places: tuple[str, str]) -> set[Outcome]:
        """Through the kernel's own chains of these tables; who falls off the end is accepted."""
        found = set(outcomes)
        for table, hook in places:
            going = [packet for verdict, packet in found if verdict == _ACCEPT]
            found = {outcome for outcome in found if outcome[0] != _ACCEPT}
            for packet in going:
                ends = self.chain(table, hook, packet)
                found |= {(_ACCEPT if verdict in (_NEXT, _RETURN) else verdict, p) for verdict, p in ends}
        return found

    def chain(self, table: str, name: str, packet: Packet) -> set[Outcome]:
        """What a chain makes of a packet; `next` where it falls off the end or returns."""
        ends: set[Outcome] = set()
        going = {packet}
        for rule in self.kernel.tables[self.family, table][name]:
            outcomes = {outcome for p in going for outcome in self._rule(table, rule, p)}
            going = {p for verdict, p in outcomes if verdict == _NEXT}
            ends |= {outcome for outcome in outcomes if outcome[0] != _NEXT}
        returned = {p for verdict, p in ends if verdict == _RETURN}
        return {o for o in ends if o[0] != _RETURN} | {(_NEXT, p) for p in going | returned}

    def _rule(self, table: str, rule: str, packet: Packet) -> set[Outcome]:
        options, target = _parse(rule)
        chances = {self._match(option, packet) for option in options}
        if False in chances:
            return {(_NEXT, packet)}
        taken = self._target(table, target, packet) if target else {(_NEXT, packet)}
        return taken | {(_NEXT, packet)} if None in chances else taken

    def _match(self, option: Option, packet: Packet) -> bool | None:
        """None: perhaps."""
        name, values, negated = option
        if name == "--probability":
            return None
        return self._holds(name, values, packet) != negated

    def _holds(self, name: str, values: tuple[str, ...], packet: Packet) -> bool:
        if name in ("-s", "-d"):
            return ip_address(packet.source if name == "-s" else packet.destination) in ip_network(values[0])
        if name in ("--src-type", "--dst-type"):
            return (packet.source if name == "--src-type" else packet.destination) in self.node
        if name == "-i":
            wanted = values[0]
            return packet.interface.startswith(wanted[:-1]) if wanted.endswith("+") else packet.interface == wanted
        if name == "--mark":
            value, mask = (int(part, 0) for part in values[0].split("/"))
            return packet.mark & mask == value
        if name == "--ctstate":
            return bool({"NEW", *(("DNAT",) if packet.translated else ())} & set(values[0].split(",")))
        if name == "--dport":
            return packet.port == int(values[0])
        if name == "-p":
            return packet.protocol == PROTOCOL_NUMBERS[values[0]]
        return {"--set": True, "--rcheck": False}[name]

    def _target(self, table: str, target: tuple[str, ...], packet: Packet) -> set[Outcome]:
        name, *values = target
        if name == "MARK":
            value, mask = (int(part, 0) for part in values[1].split("/"))
            return {(_NEXT, packet._replace(mark=packet.mark & ~mask ^ value))}
        if name == "DNAT":
            address, _, port = values[1].rpartition(":")
            to = ip_address(address.strip("[]")).packed
            return {(_ACCEPT, packet._replace(destination=to, port=int(port), translated=True))}
        if name == "MASQUERADE":
            return {(_ACCEPT, packet._replace(masqueraded=True))}
        if name in ("ACCEPT", "DROP", "RETURN", "REJECT"):
            return {(name.lower(), packet)}
        return self.chain(table, name, packet)


@lru_cache(maxsize=1 << 16)
def _parse(rule: str) -> tuple[tuple[Option, ...], tuple[str, ...]]:
    """A rule's matches and its target with what belongs to it. Raises KeyError for a word it does not know."""
    words = shlex.split(rule)
    at = words.index("-j") if "-j" in words else len(words)
    return tuple(_options(iter(words[:at]))), tuple(words[at + 1 :])


def _options(words: Iterator[str]) -> Iterator[Option]:
    negated = False
    for word in words:
        if word == "!":
            negated = True
        elif word == "-m":
            next(words)
        elif word in _SKIPPED:
            for _ in range(_SKIPPED[word]):
                next(words)
        else:
            values = () if word in ("--set", "--rcheck") else (next(words),)
            yield word, values, negated
            negated = False
