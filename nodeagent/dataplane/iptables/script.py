"""One input of `iptables-restore --noflush`: its lines, whose they are, and what holds once they are in.

Pure. A section is one table's transaction. New refusals go in before the translation that they replace goes out, and
old refusals go out after the translation that replaces them came in: filter, nat, filter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from types import MappingProxyType
from typing import NamedTuple

from deltaplane.model import ObjectKey
from nodeagent.dataplane.iptables import naming as n
from nodeagent.dataplane.iptables.rules import LAST
from nodeagent.dataplane.iptables.tables import Tables, digest
from nodeagent.linux.iptables.saved import Line

Owner = ObjectKey | None  # None: no owner has it any more


class Change(NamedTuple):
    """What is to be done for one object. Chains are of the nat table, but for those of the node."""

    owner: Owner
    write: Mapping[tuple[str, str], tuple[str, ...]] = MappingProxyType(
        {}
    )  # chains by table and name, made or written anew
    drop: Sequence[str] = ()  # chains of nat
    add: Sequence[Line] = ()  # put first in their chains, in this order
    append: Sequence[Line] = ()  # put last
    remove: Sequence[Line] = ()
    hooks: Sequence[Line] = ()
    shared: Sequence[tuple[str, str]] = ()  # shared chains to be made, or emptied

    @property
    def anything(self) -> bool:
        return any(self[1:])

    @property
    def size(self) -> int:
        """How many chains it is about."""
        return len(self.write) + len(self.drop)


class Step(NamedTuple):
    """A line of the input. `effect`: what to note once its section is in."""

    text: str
    owner: Owner
    effect: Callable[[], None] | None = None


class Section(NamedTuple):
    table: str
    steps: list[Step]


class Script:
    """The whole input; nothing to do where it has no sections.

    `most`: chains in one transaction, about; a change is never divided. 0: everything is one transaction per table.
    """

    def __init__(self, tables: Tables, changes: Iterable[Change], most: int = 0) -> None:
        every = [change for change in changes if change.anything]
        self.sections = [section for batch in _batches(every, most) for section in _sections(tables, batch)]

    def __bool__(self) -> bool:
        return bool(self.sections)

    @property
    def lines(self) -> int:
        """Commands, without the brackets of the sections."""
        return sum(len(section.steps) for section in self.sections)

    def text(self) -> str:
        parts: list[str] = []
        for section in self.sections:
            parts.append(f"*{section.table}")
            parts += (step.text for step in section.steps)
            parts.append("COMMIT")
        return "\n".join((*parts, ""))

    def rules(self, sections: int | None = None) -> Counter[str]:
        """How many rules the first so many sections write, by table; None: all."""
        written: Counter[str] = Counter()
        for section in self.sections[:sections]:
            written[section.table] += sum(step.text.startswith(("-A ", "-I ")) for step in section.steps)
        return written

    def done(self, sections: int | None = None) -> None:
        """Notes what the first so many sections did; None: all."""
        for section in self.sections[:sections]:
            for step in section.steps:
                if step.effect is not None:
                    step.effect()

    def locate(self, line: int) -> tuple[int, Step | None]:
        """The section that has a line, counted from 1, and its step; None for a bracket."""
        first = 1
        for number, section in enumerate(self.sections):
            after = first + len(section.steps) + 2
            if line < after:
                inside = first < line < after - 1
                return number, section.steps[line - first - 1] if inside else None
            first = after
        return len(self.sections), None


def _batches(changes: list[Change], most: int) -> Iterator[list[Change]]:
    if not most:
        yield changes
        return
    batch: list[Change] = []
    size = 0
    for change in chain.from_iterable(_parts(each, most) for each in changes):
        if batch and size + change.size > most:
            yield batch
            batch, size = [], 0
        batch.append(change)
        size += change.size
    yield batch


def _parts(change: Change, most: int) -> Iterator[Change]:
    """What no owner has any more may be divided: lines go first, and chains after those that lead to them."""
    if change.owner is not None or change.size <= most:
        yield change
        return
    drop = sorted(change.drop, key=lambda name: n.DESCENT.index(name[:8]))
    yield change._replace(drop=())
    yield from (Change(None, drop=drop[start : start + most]) for start in range(0, len(drop), most))


def _sections(tables: Tables, changes: list[Change]) -> list[Section]:
    made = [_section(table, tables, changes) for table in (n.MANGLE, n.FILTER, n.NAT)]
    last = Section(n.FILTER, _removals(n.FILTER, tables, changes))
    if not made[2].steps:
        made[1].steps.extend(last.steps)
        last.steps.clear()
    return [section for section in (*made, last) if section.steps]


def _section(table: str, tables: Tables, changes: list[Change]) -> Section:
    """Chains are declared first, which flushes them; lines that go and chains that nothing refers to come last."""
    steps = [step for change in changes for step in _headers(table, tables, change)]
    for change in changes:
        for (where, name), rules in change.write.items():
            if where == table:
                steps += (Step(f"-A {name} {rule}", change.owner) for rule in rules)
        steps += (_line("-I", line, change.owner, tables.hook) for line in change.hooks if line.table == table)
    appended = [(line, change.owner) for change in changes for line in change.append if line.table == table]
    appended.sort(key=lambda item: LAST in item[0].rule)
    steps += (_line("-A", line, owner, tables.add) for line, owner in appended)
    for change in reversed(changes):
        added = [line for line in change.add if line.table == table]
        steps += (_line("-I", line, change.owner, tables.add) for line in reversed(added))
    if table == n.NAT:
        steps += _removals(table, tables, changes)
        for change in changes:
            steps += (Step(f"-X {name}", change.owner, partial(tables.drop, n.NAT, name)) for name in change.drop)
    return Section(table, steps)


def _headers(table: str, tables: Tables, change: Change) -> Iterable[Step]:
    for where, name in change.shared:
        if where == table:
            yield Step(f":{name} - [0:0]", change.owner, partial(tables.empty, table, name))
    for (where, name), rules in change.write.items():
        if where == table:
            yield Step(f":{name} - [0:0]", change.owner, partial(tables.put, table, name, digest(name, rules)))
    if table == n.NAT:
        yield from (Step(f":{name} - [0:0]", change.owner) for name in change.drop)


def _removals(table: str, tables: Tables, changes: list[Change]) -> list[Step]:
    every = ((line, change.owner) for change in changes for line in change.remove)
    return [_line("-D", line, owner, tables.remove) for line, owner in every if line.table == table]


def _line(command: str, line: Line, owner: Owner, note: Callable[[Line], None]) -> Step:
    return Step(f"{command} {line.chain} {line.rule}", owner, partial(note, line))
