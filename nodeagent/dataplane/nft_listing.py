"""Reads the members of a table's sets back, for nftables mode and userspace mode's nft redirects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nodeagent.dataplane import set_members
from nodeagent.dataplane.set_members import RANGE_MEMBERS
from nodeagent.linux.nft import elements, tables
from nodeagent.linux.nft.kernel import Kernel
from nodeagent.linux.nft.objects import Table
from nodeagent.linux.nft.program import Program
from nodeagent.linux.nft.ranges import paired


def read_members(kernel: Kernel, wanted: Program) -> Iterator[bytes]:
    """The members of the sets that a program declares. Raises OSError."""
    declared = {one.name for one in wanted.sets}
    for number, name in enumerate(set_members.SETS):
        if name in declared:
            yield from _read(kernel, wanted.table, number, name)


def read_some(kernel: Kernel, wanted: Program, members: Iterable[bytes]) -> Iterator[bytes]:
    """Those of these members that are there, each asked for alone; sets of ranges, which are short, are listed."""
    declared = {one.name for one in wanted.sets}
    ranges: dict[int, set[bytes]] = {}
    for member in members:
        number, name = member[1], set_members.SETS[member[1]]
        if member[0] != wanted.family or name not in declared:
            continue
        if number not in RANGE_MEMBERS:
            there = tables.element(kernel, wanted.table, name, member[2:]) is not None
        else:
            if number not in ranges:
                ranges[number] = set(_read(kernel, wanted.table, number, name))
            there = member in ranges[number]
        if there:
            yield member


def _read(kernel: Kernel, table: Table, number: int, name: str) -> Iterator[bytes]:
    prefix, listed = bytes((table.family, number)), list(tables.listed(kernel, table, name))
    if number not in RANGE_MEMBERS:
        yield from (prefix + key for key, _ in listed)
        return
    starts, ends = ([key for key, data in listed if (data == elements.END) is end] for end in (False, True))
    yield from (prefix + first + last for first, last in paired(starts, ends))
