"""Reading our own table back: once at the start, and after the kernel has contradicted us; never in the steady state.

Lists chains and elements of our own table only. `dataplane` adopts the result; tests compare it between kernels. Rules
are not read: the table's comment carries the digest of the program that wrote them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

from nodeagent.dataplane import nft_sets
from nodeagent.dataplane.frontend_key import is_node_port
from nodeagent.dataplane.nft_listing import read_members, read_some
from nodeagent.dataplane.nftables import adoption, affinity, changes, program
from nodeagent.dataplane.nftables.program import Program
from nodeagent.dataplane.nftables.render import Placement
from nodeagent.dataplane.nftables.shared import LOCAL_OFFSET, is_private
from nodeagent.linux.nft import elements, objects, tables
from nodeagent.linux.nft.kernel import Kernel
from nodeagent.linux.nft.transaction import Operation

Listed = Callable[[str], Iterable[tuple[bytes, bytes]]]  # the elements of a map by its name
Dump = dict[str, dict[bytes, bytes | str]]  # by set or map name: key -> value, verdict, or b"" for a set's member

VERDICT_MAPS = frozenset(
    (
        *(program.SERVICE_IPS, program.SERVICE_NODEPORTS),
        *(program.NO_ENDPOINT_SERVICES, program.NO_ENDPOINT_NODEPORTS, program.FIREWALL_IPS),
    )
)


class Adopted(NamedTuple):
    """What our table holds, in the terms of `desired`; `strays` are elements that fit no dense list, by frontend."""

    frontends: dict[bytes, Placement]
    members: set[bytes]
    strays: dict[bytes, list[Operation]]


def dump(kernel: Kernel, wanted: Program) -> Dump:
    """Every element of our table that we wrote, comparable between kernels. Raises OSError."""
    return {
        declared.name: {
            key: nft_sets.verdict_name(data) if declared.name in VERDICT_MAPS else data
            for key, data in tables.listed(kernel, wanted.table, declared.name)
        }
        for declared in wanted.sets
        if not declared.flags & objects.DYNAMIC  # written by packets
    }


def adopt(kernel: Kernel, wanted: Program) -> Adopted:
    """Our table as frontends, lists and members. Raises OSError."""
    frontends: dict[bytes, Placement] = {}
    strays: dict[bytes, list[Operation]] = {}
    for node in (True, False):
        _adopt_frontends(partial(tables.listed, kernel, wanted.table), wanted, node, frontends, strays)
    return Adopted(frontends, set(read_members(kernel, wanted)), strays)


def adopt_some(kernel: Kernel, wanted: Program, keys: Iterable[bytes], members: Iterable[bytes]) -> Adopted:
    """The same of these frontends and members: each of their elements is asked for alone, up to the first gap."""
    frontends: dict[bytes, Placement] = {}
    strays: dict[bytes, list[Operation]] = {}
    for key in keys:
        if key[0] == wanted.family:
            _adopt_frontends(_Some(kernel, wanted, key), wanted, is_node_port(key), frontends, strays)
    return Adopted(frontends, set(read_some(kernel, wanted, members)), strays)


class _Some:
    """The elements of one frontend, by map."""

    def __init__(self, kernel: Kernel, wanted: Program, frontend: bytes) -> None:
        self._kernel, self._table, self._key = kernel, wanted.table, frontend[1:]

    def __call__(self, name: str) -> Iterator[tuple[bytes, bytes]]:
        if name in VERDICT_MAPS:
            yield from self._at(name, self._key)
        elif name in affinity.BY_NUMBER:
            for _, number in self._by_slot(affinity.BY_NUMBER[name]):
                yield from self._at(name, self._key + number)
        else:
            yield from self._by_slot(name)

    def _by_slot(self, name: str) -> Iterator[tuple[bytes, bytes]]:
        for start in (0, LOCAL_OFFSET):
            slot = start
            while found := list(self._at(name, elements.slot_key(self._key, slot))):
                yield from found
                slot += 1

    def _at(self, name: str, key: bytes) -> Iterator[tuple[bytes, bytes]]:
        data = tables.element(self._kernel, self._table, name, key)
        if data is not None:
            yield key, data


def _adopt_frontends(
    listed: Listed,
    wanted: Program,
    node: bool,
    frontends: dict[bytes, Placement],
    strays: dict[bytes, list[Operation]],
) -> None:
    """The frontends of one kind: node ports or addresses."""
    maps = changes.maps_of(bytes(9 if node else 13))
    verdicts, refusals = _verdicts(listed, wanted, maps[0]), _verdicts(listed, wanted, maps[2])
    firewalls = {} if node else _verdicts(listed, wanted, program.FIREWALL_IPS)
    plain = adoption.plain_lists(wanted.family, maps[1], listed(maps[1]))
    names = affinity.NODE_MAPS if node else affinity.ADDRESS_MAPS
    sticky = adoption.sticky_lists(wanted.family, {name: dict(listed(name)) for name in names})
    for frontend in verdicts.keys() | refusals.keys() | firewalls.keys() | plain.keys() | sticky.keys():
        chain = verdicts.get(frontend, "")
        keeps = is_private(chain)
        chosen, other = (sticky, plain) if keeps else (plain, sticky)
        lists = chosen.get(frontend, adoption.NOTHING)
        stray = list(lists.strays)
        if frontend in other:
            stray += adoption.all_places(frontend, maps[1], other[frontend], sticky=not keeps)
        if stray:
            strays[frontend] = [(wanted.family, name, elements.member(key)) for name, key in stray]
        refusal, firewall = refusals.get(frontend, ""), firewalls.get(frontend, "")
        frontends[frontend] = Placement(chain, lists.slots, lists.local, refusal, firewall)


def _verdicts(listed: Listed, wanted: Program, name: str) -> dict[bytes, str]:
    prefix = bytes((wanted.family,))
    return {prefix + key: nft_sets.verdict_name(data) for key, data in listed(name)}
