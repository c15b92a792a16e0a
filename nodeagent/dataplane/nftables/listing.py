"""Reading our own table back: once at the start, and after the kernel has contradicted us; never in the steady state.

Lists chains and elements of our own table only. `dataplane` adopts the result; tests compare it between kernels. Rules
are not read: the table's comment carries the digest of the program that wrote them.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import NamedTuple

from nodeagent.dataplane.nftables import adoption, affinity, changes, elements, program
from nodeagent.dataplane.nftables.kernel import Kernel
from nodeagent.dataplane.nftables.program import Program
from nodeagent.dataplane.nftables.render import RANGE_MEMBERS, Placement
from nodeagent.dataplane.nftables.shared import is_private
from nodeagent.linux.netlink import wire
from nodeagent.linux.nft import objects
from nodeagent.linux.nft.expressions import NFPROTO
from nodeagent.linux.nft.ranges import paired

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
    strays: dict[bytes, list[changes.Operation]]


def comment(kernel: Kernel, wanted: Program) -> str | None:
    """The comment of our table; None where there is no table. Raises OSError."""
    body = wire.text(1, wanted.settings.table)
    try:
        request = wire.request(objects.GET_TABLE, 0, 0, NFPROTO[wanted.family], body)
        for message in kernel.ask(request):
            note = wire.attributes(message.body).get(6, b"")
            return wire.as_text(note[2:])
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
    return None


def chains(kernel: Kernel, wanted: Program) -> dict[str, int]:
    """The names of our table's chains, and how many rules each has. Raises OSError."""
    found = {wire.as_text(attributes[3]): 0 for attributes in _all(kernel, wanted, objects.GET_CHAIN)}
    for attributes in _all(kernel, wanted, objects.GET_RULE):
        found[wire.as_text(attributes[2])] += 1
    return found


def sets(kernel: Kernel, wanted: Program) -> set[str]:
    """The names of our table's sets and maps. Raises OSError."""
    return {wire.as_text(attributes[2]) for attributes in _all(kernel, wanted, objects.GET_SET)}


def _all(kernel: Kernel, wanted: Program, operation: int) -> Iterator[dict[int, bytes]]:
    """The attributes of our table's chains, rules or sets; kernels that cannot choose list those of all tables."""
    table = wire.text(1, wanted.settings.table)
    for message in kernel.ask(wire.request(operation, wire.DUMP, 0, NFPROTO[wanted.family], table)):
        attributes = wire.attributes(message.body)
        if wire.as_text(attributes[1]) == wanted.settings.table:
            yield attributes


def dump(kernel: Kernel, wanted: Program) -> Dump:
    """Every element of our table that we wrote, comparable between kernels. Raises OSError."""
    return {
        declared.name: {
            key: elements.verdict_name(data) if declared.name in VERDICT_MAPS else data
            for key, data in listed(kernel, wanted, declared.name)
        }
        for declared in wanted.sets
        if not declared.flags & objects.DYNAMIC  # written by packets
    }


def listed(kernel: Kernel, wanted: Program, name: str) -> Iterator[tuple[bytes, bytes]]:
    """The elements of one set or map."""
    body = wire.text(1, wanted.settings.table) + wire.text(2, name)
    request = wire.request(objects.GET_ELEMENT, wire.DUMP, 0, NFPROTO[wanted.family], body)
    for message in kernel.ask(request):
        yield from elements.parse(wire.attributes(message.body).get(3, b""))


def adopt(kernel: Kernel, wanted: Program) -> Adopted:
    """Our table as frontends, lists and members. Raises OSError."""
    frontends: dict[bytes, Placement] = {}
    strays: dict[bytes, list[changes.Operation]] = {}
    for node in (True, False):
        _adopt_frontends(kernel, wanted, node, frontends, strays)
    return Adopted(frontends, _members(kernel, wanted), strays)


def _members(kernel: Kernel, wanted: Program) -> set[bytes]:
    prefix = bytes((wanted.family,))
    found = {
        prefix + bytes((number,)) + key
        for number, name in enumerate(changes.MEMBER_SETS)
        if number not in RANGE_MEMBERS
        for key, _ in listed(kernel, wanted, name)
    }
    return found.union(*(ranges(kernel, wanted, number) for number in RANGE_MEMBERS))


def ranges(kernel: Kernel, wanted: Program, number: int) -> Iterator[bytes]:
    """The members of an interval set, by `render`'s number. Raises OSError."""
    bounds = list(listed(kernel, wanted, changes.MEMBER_SETS[number]))
    starts, ends = ([key for key, data in bounds if (data == elements.END) is end] for end in (False, True))
    return (bytes((wanted.family, number)) + first + last for first, last in paired(starts, ends))


def _adopt_frontends(
    kernel: Kernel,
    wanted: Program,
    node: bool,
    frontends: dict[bytes, Placement],
    strays: dict[bytes, list[changes.Operation]],
) -> None:
    """The frontends of one kind: node ports or addresses."""
    maps = changes.maps_of(bytes(9 if node else 13))
    verdicts, refusals = _verdicts(kernel, wanted, maps[0]), _verdicts(kernel, wanted, maps[2])
    firewalls = {} if node else _verdicts(kernel, wanted, program.FIREWALL_IPS)
    plain = adoption.plain_lists(wanted.family, maps[1], listed(kernel, wanted, maps[1]))
    names = affinity.NODE_MAPS if node else affinity.ADDRESS_MAPS
    sticky = adoption.sticky_lists(wanted.family, {name: dict(listed(kernel, wanted, name)) for name in names})
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


def _verdicts(kernel: Kernel, wanted: Program, name: str) -> dict[bytes, str]:
    prefix = bytes((wanted.family,))
    return {prefix + key: elements.verdict_name(data) for key, data in listed(kernel, wanted, name)}
