"""Which private chains and sets nothing needs any more. Pure; `delivery` takes them away."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from nodeagent.dataplane.nftables.program import Program
from nodeagent.linux.nft.program import Part

Use = tuple[int, str]  # a family and a private chain's name


class Unused(NamedTuple):
    chains: list[str]  # those that go to others first
    sets: list[str]


def unused(
    program: Program, there: tuple[Collection[str], Collection[str]], released: Iterable[Use], used: Iterable[Use]
) -> Unused:
    """What is `there` (chains, sets) for released chains and not needed by used ones."""
    names = {name for family, name in released if family == program.family}
    tails = {_tail(name) for name in names}
    kept = [program.part(name) for family, name in used if family == program.family and _tail(name) in tails]
    chains, sets = _names([program.part(name) for name in names])
    needed_chains, needed_sets = _names(kept)
    gone = chains.intersection(there[0]) - needed_chains
    order = sorted(gone, key=lambda name: (-len(program.part(name).chains), name))
    return Unused(order, sorted(sets.intersection(there[1]) - needed_sets))


def _names(parts: Iterable[Part]) -> tuple[set[str], set[str]]:
    found = list(parts)
    return {c.name for part in found for c in part.chains}, {made.name for part in found for made in part.sets}


def _tail(name: str) -> str:
    """What chains have in common that share a set: a firewall's hash, a service port."""
    head, _, tail = name.partition("/")
    return tail if head == "firewall" else tail.partition("/")[2]
