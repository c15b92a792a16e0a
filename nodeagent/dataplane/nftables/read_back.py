"""Our tables read back for people, as `nodeagent.dataplane.read_back` has frontends and members. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from deltaplane.forwarding import ServiceForwarding, Target
from nodeagent.dataplane import set_members
from nodeagent.dataplane.frontend_key import identity
from nodeagent.dataplane.nftables import inventory, listing, render
from nodeagent.dataplane.nftables.desired import Desired
from nodeagent.dataplane.nftables.program import Program
from nodeagent.dataplane.nftables.render import Placement
from nodeagent.dataplane.nftables.slots import ENDPOINT_WIDTHS, split
from nodeagent.dataplane.read_back import Found, Written
from nodeagent.linux.nft.kernel import Kernel


def wanted(desired: Desired, services: Iterable[ServiceForwarding]) -> Found:
    """What the tables are to say of these Services. Raises ValueError."""
    frontends: dict[bytes, Written] = {}
    members: set[bytes] = set()
    for service in services:
        for entry in service.entries:
            if entry.frontend.family in desired.families:
                key = identity(entry)
                frontends[key] = written(key, render.place(entry, service.key))
        members.update(member for member in set_members.members(service) if member[0] in desired.families)
    return Found(frontends, named(members))


def account(desired: Desired, keys: Iterable[bytes], services: Iterable[ServiceForwarding]) -> Found:
    """What the tables say, as far as the agent knows."""
    return _found(desired.frontends.actual, desired.members.actual, keys, services)


def look(
    kernel: Kernel, programs: Mapping[int, Program], keys: Iterable[bytes], services: Sequence[ServiceForwarding]
) -> Found:
    """What the tables say now; the elements in question are asked for one by one. Raises OSError."""
    frontends: dict[bytes, Placement] = {}
    members: set[bytes] = set()
    strays: dict[bytes, int] = {}
    asked, theirs = list(keys), {member for service in services for member in set_members.members(service)}
    for family in {key[0] for key in (*asked, *theirs)} & programs.keys():
        program = programs[family]
        if problem := inventory.problem(kernel, program):
            raise OSError(problem)
        taken = listing.adopt_some(kernel, program, asked, (member for member in theirs if member[0] == family))
        frontends.update(taken.frontends)
        members.update(taken.members)
        strays.update({key: len(found) for key, found in taken.strays.items()})
    found = _found(frontends, members, asked, services)
    marked = {
        key: Written(each.targets, each.local, each.refusal, f"{each.words}, and {strays[key]} elements in no order")
        if key in strays
        else each
        for key, each in found.frontends.items()
    }
    return Found(marked, found.members)


def _found(
    frontends: Mapping[bytes, Placement],
    members: Iterable[bytes],
    keys: Iterable[bytes],
    services: Iterable[ServiceForwarding],
) -> Found:
    there = {key: written(key, frontends[key]) for key in keys if key in frontends}
    theirs = {member for service in services for member in set_members.members(service)}
    return Found(there, named(theirs.intersection(members)))


def written(key: bytes, placement: Placement) -> Written:
    """What an element of the tables says of a frontend."""
    lists = (placement.slots, placement.local)
    targets, local = (tuple(sorted(_target(value) for value in split(each, ENDPOINT_WIDTHS[key[0]]))) for each in lists)
    said = [f"chain {placement.chain}"] if placement.chain else []
    said += [f"chain {placement.firewall}"] if placement.firewall else []
    return Written(targets, local, placement.refusal, ", ".join(said))


def _target(value: bytes) -> Target:
    return Target(value[:-4], int.from_bytes(value[-4:-2], "big"))


def named(members: Iterable[bytes]) -> frozenset[str]:
    """Members for people."""
    return frozenset(map(set_members.name_of, members))
