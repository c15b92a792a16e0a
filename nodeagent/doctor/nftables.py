"""Reads this node's nftables: tables, base chains that drop by default, and what other programs' chains do.

Costs what other programs have. Of tables in `OURS` nothing but the name is asked for; else the rules of base chains and
of those that they lead to, chain by chain, but for chains in `KNOWN`: a node in iptables mode has thousands of those.
"""

from __future__ import annotations

import errno
import math
import time
from collections.abc import Iterator
from contextlib import closing, suppress

from msgspec import Struct

from nodeagent.doctor.chains import KNOWN, OURS, POLICY, Chain, Chains, foreign, note_rule, note_verdict
from nodeagent.doctor.facts import Foreign, Hook
from nodeagent.linux.netlink import wire
from nodeagent.linux.nft import expressions as x
from nodeagent.linux.nft import objects
from nodeagent.linux.nft.kernel import Kernel, NetlinkKernel
from nodeagent.linux.nft.tables import KUBE_PROXY

POINTS = {0: "prerouting", 1: "input", 2: "forward", 3: "output"}  # NF_INET_*
HELD = ("input", "forward")


class Nftables(Struct, frozen=True):
    """`tables` by name, such as "ip deltaplane"; `hooks` drop what they do not accept."""

    tables: frozenset[str] = frozenset()
    hooks: tuple[Hook, ...] = ()
    foreign: tuple[Foreign, ...] = ()

    @property
    def kube_proxy(self) -> list[str]:
        """kube-proxy's own tables, sorted."""
        return sorted(each for each in self.tables if each.partition(" ")[2] == KUBE_PROXY)


def read(kernel: Kernel | None = None, most: float = math.inf) -> Nftables:
    """Takes `most` seconds at most. Raises OSError (TimeoutError after that), DataplaneUnavailable."""
    with closing(kernel or NetlinkKernel()) as asked:
        reading = _Reading(asked, most)
        for family in x.FAMILY_NAMES:
            reading.family(family)
    return Nftables(frozenset(reading.tables), tuple(reading.hooks), tuple(reading.foreign))


class _Reading:
    """Collects, family by family."""

    def __init__(self, kernel: Kernel, most: float) -> None:
        self._kernel, self._most, self._until = kernel, most, time.monotonic() + most
        self.tables: set[str] = set()
        self.hooks: list[Hook] = []
        self.foreign: list[Foreign] = []

    def family(self, family: int) -> None:
        name = x.FAMILY_NAMES[family]
        tables = {wire.as_text(each[1]) for each in self._dumped(objects.GET_TABLE, family)}
        self.tables |= {f"{name} {table}" for table in tables}
        if tables <= set(OURS):
            return
        for table, chains in sorted(self._chains(family, tables.difference(OURS)).items()):
            dropping = ((each, chain.point) for each, chain in chains.items() if POLICY in chain.does)
            self.hooks += [Hook(name, table, each, point) for each, point in dropping if point in HELD]
            self._rules(family, table, chains)
            self.foreign += foreign(f"{name} {table}", chains)

    def _chains(self, family: int, tables: set[str]) -> dict[str, Chains]:
        """By table and name. The kernel lists chains of a family, not of a table."""
        found: dict[str, Chains] = {}
        for each in self._dumped(objects.GET_CHAIN, family):
            table, name = wire.as_text(each[1]), wire.as_text(each[3])
            if table in tables and not name.startswith(KNOWN):
                found.setdefault(table, {})[name] = _chain(each)
        return found

    def _rules(self, family: int, table: str, chains: Chains) -> None:
        """Notes what the rules of base chains do, and of those that they lead to."""
        maps: Chains = {}
        todo, seen = [name for name, chain in chains.items() if chain.point], set[str]()
        while todo:
            name = todo.pop()
            if name in seen or name not in chains:
                continue
            seen.add(name)
            for each in self._looked_up(family, table, name, chains[name]):
                said = maps.get(each) or maps.setdefault(each, self._map(family, table, each))
                chains[name].does |= said.does
                chains[name].leads |= said.leads
            todo += chains[name].leads

    def _looked_up(self, family: int, table: str, name: str, chain: Chain) -> set[str]:
        """Notes the rules of one chain (NFTA_RULE_TABLE 1, _CHAIN 2, _EXPRESSIONS 4). Returns its verdict maps."""
        rules = self._dumped(objects.GET_RULE, family, wire.text(1, table) + wire.text(2, name))
        return {each for rule in rules for each in note_rule(chain, rule.get(4, b""))}

    def _map(self, family: int, table: str, name: str) -> Chain:
        """The verdicts of a map, as a chain's (NFTA_SET_ELEM_LIST_ELEMENTS 3, NFTA_SET_ELEM_DATA 2)."""
        said = Chain()
        with suppress(FileNotFoundError):  # it has gone since
            for part in self._dumped(objects.GET_ELEMENT, family, wire.text(1, table) + wire.text(2, name)):
                for element in wire.payloads(part.get(3, b""), 1):
                    note_verdict(said, wire.attributes(element).get(2, b""))
        return said

    def _dumped(self, operation: int, family: int, body: bytes = b"") -> Iterator[dict[int, bytes]]:
        for message in self._kernel.ask(wire.request(operation, wire.DUMP, 0, family, body)):
            if time.monotonic() > self._until:
                raise TimeoutError(errno.ETIMEDOUT, f"nftables: there is more than can be read in {self._most:g} s")
            yield wire.attributes(message.body)


def _chain(said: dict[int, bytes]) -> Chain:
    """NFTA_CHAIN_HOOK 4 with NFTA_HOOK_HOOKNUM 1, and NFTA_CHAIN_POLICY 5."""
    if 4 not in said:
        return Chain()
    chain = Chain(POINTS.get(wire.as_number(wire.attributes(said[4]).get(1, b"\0")), ""))
    if chain.point and wire.as_number(said.get(5, b"\1")) == x.DROP:
        chain.does.add(POLICY)
    return chain
