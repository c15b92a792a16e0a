"""Reading our own table back: once at the start, and after the kernel has contradicted us; never in the steady state.

Lists chains and elements of our own table only. `dataplane` adopts the result; tests compare it between kernels. Rules
are not read: the table's comment carries the digest of the program that wrote them.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import NamedTuple

from nodeagent.program.nftables import changes, elements, objects, program, wire
from nodeagent.program.nftables.expressions import NFPROTO
from nodeagent.program.nftables.kernel import Kernel
from nodeagent.program.nftables.program import LOCAL_OFFSET, Program
from nodeagent.program.nftables.render import Placement

Dump = dict[str, dict[bytes, bytes | str]]  # by set or map name: key -> value, verdict, or b"" for a set's member

VERDICT_MAPS = frozenset(
    (
        *(program.SERVICE_IPS, program.SERVICE_NODEPORTS),
        *(program.NO_ENDPOINT_SERVICES, program.NO_ENDPOINT_NODEPORTS),
    )
)


class Adopted(NamedTuple):
    """What our table holds, in the tracker's terms; `strays` are elements that fit no dense list, by frontend."""

    chains: set[str]
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


def chains(kernel: Kernel, wanted: Program) -> set[str]:
    """The names of our table's chains."""
    table = wire.text(1, wanted.settings.table)
    listed = kernel.ask(wire.request(objects.GET_CHAIN, wire.DUMP, 0, NFPROTO[wanted.family], table))
    found = (wire.attributes(message.body) for message in listed)
    return {wire.as_text(a[3]) for a in found if wire.as_text(a[1]) == wanted.settings.table}


def dump(kernel: Kernel, wanted: Program) -> Dump:
    """Every element of our table, comparable between kernels. Raises OSError."""
    return {
        declared.name: {
            key: elements.verdict_name(data) if declared.name in VERDICT_MAPS else data
            for key, data in listed(kernel, wanted, declared.name)
        }
        for declared in wanted.sets
    }


def listed(kernel: Kernel, wanted: Program, name: str) -> Iterator[tuple[bytes, bytes]]:
    """The elements of one set or map."""
    body = wire.text(1, wanted.settings.table) + wire.text(2, name)
    request = wire.request(objects.GET_ELEMENT, wire.DUMP, 0, NFPROTO[wanted.family], body)
    for message in kernel.ask(request):
        yield from elements.parse(wire.attributes(message.body).get(3, b""))


def adopt(kernel: Kernel, wanted: Program) -> Adopted:
    """Our table as frontends, lists and members. Raises OSError."""
    prefix = bytes((wanted.family,))
    members = {
        prefix + bytes((number,)) + key
        for number, name in enumerate(changes.MEMBER_SETS)
        for key, _ in listed(kernel, wanted, name)
    }
    frontends: dict[bytes, Placement] = {}
    strays: dict[bytes, list[changes.Operation]] = {}
    for maps in ((changes.maps_of(bytes(9))), (changes.maps_of(bytes(13)))):
        verdicts = {prefix + key: elements.verdict_name(data) for key, data in listed(kernel, wanted, maps[0])}
        refusals = {prefix + key: elements.verdict_name(data) for key, data in listed(kernel, wanted, maps[2])}
        lists = _lists(kernel, wanted, maps[1], strays)
        for frontend in verdicts.keys() | refusals.keys() | lists.keys():
            slots, local = lists.get(frontend, (b"", b""))
            chain, refusal = verdicts.get(frontend, ""), refusals.get(frontend, "")
            frontends[frontend] = Placement(chain, slots, local, refusal)
    return Adopted(chains(kernel, wanted), frontends, members, strays)


def _lists(
    kernel: Kernel, wanted: Program, name: str, strays: dict[bytes, list[changes.Operation]]
) -> dict[bytes, tuple[bytes, bytes]]:
    """The endpoint lists of every frontend in one map."""
    prefix, slot_of = bytes((wanted.family,)), elements.SLOT.unpack_from
    found: dict[bytes, dict[int, bytes]] = {}
    for key, value in listed(kernel, wanted, name):
        found.setdefault(key[:-4], {})[slot_of(key, len(key) - 4)[0]] = value
    result = {}
    for key, by_slot in found.items():
        slots, local = _dense(by_slot, 0), _dense(by_slot, LOCAL_OFFSET)
        result[prefix + key] = b"".join(slots), b"".join(local)
        kept = {*range(len(slots)), *range(LOCAL_OFFSET, LOCAL_OFFSET + len(local))}
        if len(kept) < len(by_slot):
            strays[prefix + key] = [
                (wanted.family, name, elements.member(elements.slot_key(key, slot))) for slot in by_slot.keys() - kept
            ]
    return result


def _dense(by_slot: dict[int, bytes], start: int) -> list[bytes]:
    """The values from `start` up to the first gap."""
    values: list[bytes] = []
    while start + len(values) in by_slot:
        values.append(by_slot[start + len(values)])
    return values
