"""What `iptables-save` prints, and text that is made of it: the one parser, so that no comment is taken for a line."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from nodeagent.linux.errors import KernelUnavailable
from nodeagent.linux.text import UnsafeText, printable

_ESCAPED = re.compile(r"\\.")
_STRING = re.compile(r'"(?:\\.|[^"\\])*"', re.DOTALL)
_TARGET = re.compile(r"(?:^| )-[jg] (\S+)")

FILTER, NAT, MANGLE = "filter", "nat", "mangle"
TABLES = (FILTER, NAT, MANGLE)

Listing = dict[str, list[str]]  # rules of one table by chain


class Line(NamedTuple):
    """A rule and where it stands."""

    table: str
    chain: str
    rule: str


def tables(saved: str) -> dict[str, Listing]:
    """Rules by table and chain."""
    found: dict[str, Listing] = {}
    chains: Listing = {}
    for line in lines(saved):
        if line.startswith("*"):
            chains = found.setdefault(line[1:].strip(), {})
        elif line.startswith(":"):
            chains.setdefault(line[1:].split(" ", 1)[0], [])
        elif line.startswith("-A "):
            _, chain, rule = f"{line} ".split(" ", 2)
            chains.setdefault(chain, []).append(rule[:-1])
    return found


def listing(saved: str) -> Listing:
    """The chains of the one table that `iptables-save -t` printed."""
    return next(iter(tables(saved).values()), {})


def policies(saved: str) -> dict[str, str]:
    """The policy of each base chain of the one table that `iptables-save -t` printed: ACCEPT or DROP."""
    words = (line[1:].split(" ") for line in lines(saved) if line.startswith(":"))
    return {each[0]: each[1] for each in words if len(each) > 1 and each[1] != "-"}


def lines(saved: str) -> Iterator[str]:
    """The lines. A line end between quotes is part of a comment, and ends no line."""
    begun: list[str] = []
    for part in saved.split("\n"):
        begun.append(part)
        if _odd(part) == (len(begun) > 1):
            yield "\n".join(begun)
            begun.clear()
    yield from begun  # quotes without an end: each line is what it looks like


def _odd(part: str) -> bool:
    """Whether quotes that begin before a text end in it, or those that begin in it do not."""
    return '"' in part and _ESCAPED.sub("", part).count('"') & 1 == 1


def target(rule: str) -> str:
    """The target of a rule; empty: none. What stands in quotes is no option."""
    found = _TARGET.search(_STRING.sub('""', rule) if '"' in rule else rule)
    return found[1] if found else ""


def jumps_to(chains: Collection[str], found: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """The rules (chain, rule) in other chains of a table that lead to one of these."""
    return [
        (chain, rule)
        for chain, rules in found.items()
        if chain not in chains
        for rule in rules
        if target(rule) in chains
    ]


def deletion(chain: str, rule: str) -> str:
    """The line that deletes a rule of another program. Raises KernelUnavailable for one that cannot be given back.

    `iptables-restore` reads line by line, so that a rule with a line end in its comment would be several lines there.
    """
    try:
        return f"-D {chain} {printable(rule)}"
    except UnsafeText as error:
        raise KernelUnavailable(f"rule {error}: delete it with iptables -D; it is retried") from error


def removal(table: str, chains: Sequence[str], jumps: Sequence[tuple[str, str]], most: int = 0) -> str:
    """The input for `iptables-restore --noflush` that removes these chains after the jumps to them; empty: nothing.

    `most`: chains in one transaction; 0: all. Raises as `deletion`.
    """
    size = most or len(chains) or 1
    deleted = [deletion(*jump) for jump in jumps]
    text = ""
    for part in [chains[start : start + size] for start in range(0, len(chains), size)] or [()]:
        body = [*(f":{name} - [0:0]" for name in part), *deleted, *(f"-X {name}" for name in part)]
        text += "\n".join((f"*{table}", *body, "COMMIT\n")) if body else ""
        deleted = []
    return text
