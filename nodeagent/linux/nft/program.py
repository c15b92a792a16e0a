"""A table with its sets and chains, as one value; `transaction` installs it, `tables` reads it back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nodeagent.linux.nft.expressions import LAYOUTS
from nodeagent.linux.nft.objects import Chain, Set, Table


class Part(NamedTuple):
    """Sets and chains that belong together, each after what it refers to."""

    chains: tuple[Chain, ...]
    sets: tuple[Set, ...] = ()


@dataclass(frozen=True)
class Program:
    """One table of one family (4 or 6). The chains are in the order of their creation."""

    family: int
    name: str
    sets: tuple[Set, ...]
    chains: tuple[Chain, ...]
    comment: str = ""

    @property
    def table(self) -> Table:
        return Table(self.family, self.name, self.comment)

    def text(self, parts: Sequence[Part] = ()) -> str:
        """The table in nft syntax, with these parts; `nft -f` takes it."""
        sets = {declared.name: declared for part in parts for declared in part.sets}
        chains = {chain.name: chain for part in parts for chain in part.chains}
        body = [line for declared in (*self.sets, *sets.values()) for line in declared.lines()]
        body += [line for chain in (*chains.values(), *self.chains) for line in chain.lines()]
        head = f"table {LAYOUTS[self.family].name} {self.name} {{"
        return "\n".join([head, f'\tcomment "{self.comment}"', *("\t" + line for line in body), "}", ""])
