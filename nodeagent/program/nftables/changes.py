"""The difference between what the tables say of a frontend and what they should, as elements to delete and to add.

`dataplane` asks for it, `transaction` sends it. A changed value is a deletion and an addition of the same key, because
the kernel refuses another value under an existing key. Pure.
"""

from __future__ import annotations

from typing import NamedTuple

from deltaplane.model import ObjectKey
from nodeagent.program.nftables import elements, program
from nodeagent.program.nftables.render import Placement, is_node_port
from nodeagent.program.nftables.slots import SlotChange, arrange, changed
from nodeagent.program.nftables.tracker import WIDTHS

Operation = tuple[int, str, bytes]  # family, set, element

MEMBER_SETS = (program.CLUSTER_IPS, program.HAIRPINS, program.NODEPORT_IPS)
_ADDRESS_MAPS = (program.SERVICE_IPS, program.ENDPOINTS, program.NO_ENDPOINT_SERVICES)
_NODE_MAPS = (program.SERVICE_NODEPORTS, program.NODEPORT_ENDPOINTS, program.NO_ENDPOINT_NODEPORTS)
EMPTY = Placement("")


class Change(NamedTuple):
    """One frontend or one set member on its way into the kernel or out of it; goes in one transaction, whole.

    `after` None for a frontend: it is to be gone. `present` is for members.
    """

    owner: ObjectKey
    identity: bytes
    deletes: tuple[Operation, ...] | list[Operation]
    adds: tuple[Operation, ...] | list[Operation]
    after: Placement | None = None
    chain: tuple[int, str] | None = None  # the family and name of the shared chain it needs
    member: bool = False
    present: bool = False


def maps_of(frontend: bytes) -> tuple[str, str, str]:
    """The verdict map, the endpoint map and the no-endpoint map a frontend stands in."""
    return _NODE_MAPS if is_node_port(frontend) else _ADDRESS_MAPS


def frontend_change(
    owner: ObjectKey, frontend: bytes, before: Placement | None, wanted: Placement | None, strays: list[Operation]
) -> Change | None:
    """What takes a frontend from one placement to another; None where they agree. `strays` are deleted with it."""
    family = frontend[0]
    width = WIDTHS[family]
    old = before or EMPTY
    new = arranged(old, wanted, width) if wanted is not None else EMPTY
    deletes: list[Operation] = list(strays)
    adds: list[Operation] = []
    for offset, was, now in ((0, old.slots, new.slots), (program.LOCAL_OFFSET, old.local, new.local)):
        if not was:
            name = maps_of(frontend)[1]
            adds += [(family, name, element) for element in elements.endpoints(frontend[1:], offset, now, width)]
        elif was != now:
            _slots(frontend, offset, changed(was, now, width), (deletes, adds))
    if old.chain != new.chain or old.refusal != new.refusal:
        _verdicts(frontend, old, new, (deletes, adds))
    if not deletes and not adds:
        return None
    chain = (family, new.chain) if new.chain and new.chain != old.chain else None
    return Change(owner, frontend, deletes, adds, None if wanted is None else new, chain)


def _slots(
    frontend: bytes, offset: int, found: list[SlotChange], into: tuple[list[Operation], list[Operation]]
) -> None:
    family, key, name = frontend[0], frontend[1:], maps_of(frontend)[1]
    for slot, gone, come in found:
        if gone is not None:
            into[0].append((family, name, elements.member(elements.slot_key(key, slot + offset))))
        if come is not None:
            into[1].append((family, name, elements.endpoint(key, slot + offset, come)))


def _verdicts(frontend: bytes, old: Placement, new: Placement, into: tuple[list[Operation], list[Operation]]) -> None:
    family, key, (verdicts, _, refusals) = frontend[0], frontend[1:], maps_of(frontend)
    for name, was, now in ((verdicts, old.chain, new.chain), (refusals, old.refusal, new.refusal)):
        if was != now and was:
            into[0].append((family, name, elements.member(key)))
        if was != now and now:
            into[1].append((family, name, elements.dispatch(key, now)))


def arranged(before: Placement, wanted: Placement, width: int) -> Placement:
    """The wanted placement with the slots that keep most of what stands."""
    slots, local = arrange(before.slots, wanted.slots, width), arrange(before.local, wanted.local, width)
    if slots is wanted.slots and local is wanted.local:
        return wanted
    return Placement(wanted.chain, slots, local, wanted.refusal)


def member_change(owner: ObjectKey, member: bytes, present: bool) -> Change:
    """What puts a set's member in or takes it out."""
    operation = (member[0], MEMBER_SETS[member[1]], elements.member(member[2:]))
    deletes, adds = ((), (operation,)) if present else ((operation,), ())
    return Change(owner, member, deletes, adds, member=True, present=present)
