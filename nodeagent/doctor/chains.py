"""Chains of other programs that may drop or redirect packets: what a base chain and those that it leads to do. Pure.

A rule is looked at for what it does, not for which packets: that, only a packet tells (`deltaplane trace`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from msgspec import Struct, field

from nodeagent.doctor.facts import Foreign, Saved
from nodeagent.linux.netlink import wire
from nodeagent.linux.nft import expressions as x
from nodeagent.linux.nft.tables import KUBE_PROXY

OURS = ("deltaplane", "deltaplane-userspace", KUBE_PROXY)  # tables of this proxy and of the one before it
POLICY = "drops by policy"
KNOWN = ("KUBE-", "DELTAPLANE-", "CNI-")  # chains that other findings are about
BASE = {"PREROUTING": "prerouting", "INPUT": "input", "FORWARD": "forward", "OUTPUT": "output"}  # of iptables
TARGETS = {
    "DROP": "drops", "REJECT": "rejects", "DNAT": "redirects", "REDIRECT": "redirects", "TPROXY": "redirects",
    "NETMAP": "redirects", "NFQUEUE": "queues",
}  # fmt: skip
EXPRESSIONS = {"reject": "rejects", "redir": "redirects", "tproxy": "redirects", "queue": "queues"}
_TARGET = re.compile(r"(?:^| )-([jg]) (\S+)")
_QUEUE = 3  # NF_QUEUE, in the lower byte; the queue's number is above it
_DESTINATION = 1  # NFT_NAT_DNAT


class Chain(Struct):
    """`point`: the hook of a base chain, such as forward; empty: of none. `leads`: chains that it jumps to."""

    point: str = ""
    does: set[str] = field(default_factory=set)
    leads: set[str] = field(default_factory=set)


Chains = dict[str, Chain]


def foreign(table: str, chains: Mapping[str, Chain]) -> Iterator[Foreign]:
    """The base chains of a table that may do something to a packet. `table`: such as "inet filter"."""
    if table.partition(" ")[2] in OURS:
        return
    for name, chain in chains.items():
        does = sorted({verb for each in _reached(name, chains) for verb in chains[each].does}) if chain.point else ()
        if does:
            yield Foreign(table, name, chain.point, tuple(does))


def _reached(name: str, chains: Mapping[str, Chain]) -> set[str]:
    found, todo = set[str](), [name]
    while todo:
        each = todo.pop()
        if each not in found and each in chains and not each.startswith(KNOWN):
            found.add(each)
            todo.extend(chains[each].leads)
    return found


def of_legacy(table: Mapping[str, tuple[str, ...]], policies: Mapping[str, str]) -> Chains:
    """A table of iptables-legacy by its text."""
    found = {name: Chain(BASE.get(name, "")) for name in table}
    for name, rules in table.items():
        for _, target in (hit for rule in rules for hit in _TARGET.findall(rule)):
            note_target(found[name], target)
            found[name].leads.add(target)
        if policies.get(name) == "DROP":
            found[name].does.add(POLICY)
    return found


def note_target(chain: Chain, target: str) -> None:
    """A target of iptables: what it does, if anything."""
    if target in TARGETS:
        chain.does.add(TARGETS[target])


def note_rule(chain: Chain, expressions: bytes) -> list[str]:
    """What a rule of nf_tables does (NFTA_RULE_EXPRESSIONS); the names of verdict maps that say more."""
    maps = []
    for one in wire.payloads(expressions, 1):
        parts = wire.attributes(one)
        name, data = wire.as_text(parts.get(1, b"")), wire.attributes(parts.get(2, b""))
        if name == "immediate":
            note_verdict(chain, data.get(2, b""))
        elif name == "lookup" and 3 in data and not wire.as_number(data[3]):
            maps.append(wire.as_text(data[1]))
        elif name == "nat" and wire.as_number(data.get(1, b"")) == _DESTINATION:
            chain.does.add("redirects")
        elif name == "target":
            note_target(chain, wire.as_text(data.get(1, b"")))
        elif name in EXPRESSIONS:
            chain.does.add(EXPRESSIONS[name])
    return maps


def note_verdict(chain: Chain, data: bytes) -> None:
    """NFTA_DATA_VERDICT (2) in a rule's or an element's data."""
    verdict = wire.attributes(data).get(2, b"")
    if not verdict:
        return
    code, target = x.read_verdict(verdict)
    if code == x.DROP:
        chain.does.add("drops")
    elif code >= 0 and code & 0xFF == _QUEUE:
        chain.does.add("queues")
    elif code in (x.JUMP, x.GOTO):
        chain.leads.add(target)


def all_legacy(saved: Saved, policies: Mapping[str, Mapping[str, str]]) -> Iterator[Foreign]:
    """Of iptables-legacy's tables, IPv4 and IPv6 together."""
    for name, table in saved.items():
        yield from foreign(f"iptables-legacy {name}", of_legacy(table, policies.get(name, {})))
