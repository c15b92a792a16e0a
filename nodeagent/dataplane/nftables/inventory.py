"""Whether a table in the kernel is the one we would have written, and what it holds. Reads; `dataplane` asks.

Once at the start and whenever another program is known to have changed the table. Rules are counted, not compared: the
table's comment carries the digest of the program that wrote them.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import NamedTuple

from nodeagent.dataplane.nftables import listing
from nodeagent.dataplane.nftables.listing import Adopted
from nodeagent.dataplane.nftables.program import Program
from nodeagent.linux.nft import tables
from nodeagent.linux.nft.kernel import Kernel

TRIES = 3


class Inventory(NamedTuple):
    """`adopted` is None where the table must be replaced: another program's, or not whole."""

    chains: Mapping[str, int]  # how many rules each has
    sets: set[str]
    adopted: Adopted | None


def take(kernel: Kernel, wanted: Program) -> Inventory | None:
    """What our table of a family holds; None where there is none. Raises OSError.

    A table that another program takes away while it is read is read again, and counts as away if it goes each time.
    """
    for _ in range(TRIES):
        try:
            return _taken(kernel, wanted)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
    return None


def _taken(kernel: Kernel, wanted: Program) -> Inventory | None:
    found = tables.comment(kernel, wanted.table)
    if found is None:
        return None
    chains, sets = tables.chains(kernel, wanted.table), tables.sets(kernel, wanted.table)
    intact = found == wanted.comment and sets.issuperset(declared.name for declared in wanted.sets)
    if not intact or not _whole(chains, wanted):
        return Inventory(chains, sets, None)
    return Inventory(chains, sets, listing.adopt(kernel, wanted))


def problem(kernel: Kernel, wanted: Program) -> str:
    """Why our table of a family is not as we would have written it; empty: it is. Only constant chains are counted.

    Raises OSError.
    """
    found, name = tables.comment(kernel, wanted.table), wanted.table.name
    if found is None:
        return f"table {name} is not there"
    if found != wanted.comment:
        return f"table {name} is another version's"
    for chain in wanted.chains:
        if tables.rules_in(kernel, wanted.table, chain.name) != len(chain.rules):
            return f"table {name} is not as the agent writes it: chain {chain.name} has other rules"
    return ""


def _whole(chains: Mapping[str, int], wanted: Program) -> bool:
    """Whether every chain that must be there is, and all have as many rules as we gave them."""
    constant = {chain.name: len(chain.rules) for chain in wanted.chains}
    if not constant.keys() <= chains.keys():
        return False
    return all(constant.get(name, -1) == rules or _shared(name, rules, wanted) for name, rules in chains.items())


def _shared(name: str, rules: int, wanted: Program) -> bool:
    try:
        return len(wanted.part(name).chains[-1].rules) == rules
    except (ValueError, KeyError, IndexError):
        return False  # no chain of ours
