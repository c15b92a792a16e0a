"""Reads this node's nftables: tables, base chains that drop by default, and what other programs' chains do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress

from msgspec import Struct

from nodeagent.doctor.chains import KNOWN, OURS, Chain, Chains, foreign, note_rule, note_verdict
from nodeagent.doctor.facts import Foreign, Hook
from nodeagent.linux.netlink import wire
from nodeagent.linux.nft import expressions as x
from nodeagent.linux.nft import objects
from nodeagent.linux.nft.kernel import NetlinkKernel

POINTS = {0: "prerouting", 1: "input", 2: "forward", 3: "output"}  # NF_INET_*
HELD = ("input", "forward")


class Nftables(Struct, frozen=True):
    """`tables` by name, such as "ip deltaplane"; `hooks` drop what they do not accept."""

    tables: frozenset[str] = frozenset()
    hooks: tuple[Hook, ...] = ()
    foreign: tuple[Foreign, ...] = ()


def read() -> Nftables:
    """Raises OSError, DataplaneUnavailable."""
    with closing(NetlinkKernel()) as kernel:
        tables = {
            f"{name} {wire.as_text(found[1])}"
            for family, name in x.FAMILY_NAMES.items()
            for found in _dumped(kernel, objects.GET_TABLE, family)
        }
        found: dict[str, Chains] = {}
        hooks: list[Hook] = []
        for family, name in x.FAMILY_NAMES.items():
            for chain in _dumped(kernel, objects.GET_CHAIN, family):
                hooks += _chain(name, chain, found)
            _rules(kernel, family, found)
    others = (each for table, chains in sorted(found.items()) for each in foreign(table, chains))
    return Nftables(frozenset(tables), tuple(hooks), tuple(others))


def _dumped(kernel: NetlinkKernel, operation: int, family: int, body: bytes = b"") -> Iterator[dict[int, bytes]]:
    for message in kernel.ask(wire.request(operation, wire.DUMP, 0, family, body)):
        yield wire.attributes(message.body)


def _chain(family: str, chain: dict[int, bytes], found: dict[str, Chains]) -> Iterator[Hook]:
    """Notes it. Of a base chain (NFTA_CHAIN_HOOK 4, NFTA_HOOK_HOOKNUM 1, NFTA_CHAIN_POLICY 5) that drops: the hook."""
    table, name = wire.as_text(chain[1]), wire.as_text(chain[3])
    point = POINTS.get(wire.as_number(wire.attributes(chain[4]).get(1, b"\0")), "") if 4 in chain else ""
    noted = found.setdefault(f"{family} {table}", {})[name] = Chain(point)
    if point and wire.as_number(chain.get(5, b"\1")) == x.DROP:
        noted.does.add("drops by policy")
        if point in HELD:
            yield Hook(family, table, name, point)


def _rules(kernel: NetlinkKernel, family: int, found: dict[str, Chains]) -> None:
    """Notes what rules do (NFTA_RULE_TABLE 1, _CHAIN 2, _EXPRESSIONS 4), but for those that are no stranger's."""
    maps: dict[tuple[str, str], list[Chain]] = {}
    for rule in _dumped(kernel, objects.GET_RULE, family):
        table, name = wire.as_text(rule[1]), wire.as_text(rule[2])
        chain = found.get(f"{x.FAMILY_NAMES[family]} {table}", {}).get(name)
        if chain is None or table in OURS or name.startswith(KNOWN):
            continue
        for each in note_rule(chain, rule.get(4, b"")):
            maps.setdefault((table, each), []).append(chain)
    for (table, name), users in maps.items():
        with suppress(FileNotFoundError):  # it has gone since
            _map(kernel, family, (table, name), users)


def _map(kernel: NetlinkKernel, family: int, name: tuple[str, str], users: list[Chain]) -> None:
    """Notes the verdicts of a map (NFTA_SET_ELEM_LIST_ELEMENTS 3, NFTA_SET_ELEM_DATA 2)."""
    body = wire.text(1, name[0]) + wire.text(2, name[1])
    for part in _dumped(kernel, objects.GET_ELEMENT, family, body):
        for element in wire.payloads(part.get(3, b""), 1):
            data = wire.attributes(element).get(2, b"")
            for chain in users:
                note_verdict(chain, data)
