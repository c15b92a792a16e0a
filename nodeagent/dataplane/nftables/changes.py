"""The difference between what the tables say of a frontend and what they should, as elements to delete and to add.

`dataplane` asks for it, `delivery` sends it. A changed value is a deletion and an addition of the same key, because
the kernel refuses another value under an existing key. Pure.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from deltaplane.model import ObjectKey
from nodeagent.dataplane import nft_sets
from nodeagent.dataplane.frontend_key import is_node_port
from nodeagent.dataplane.nftables import affinity, program, shared
from nodeagent.dataplane.nftables.render import Placement
from nodeagent.dataplane.nftables.shared import LOCAL_OFFSET, is_private
from nodeagent.dataplane.nftables.slots import ENDPOINT_WIDTHS, SlotChange, arrange, changed
from nodeagent.linux.nft import elements
from nodeagent.linux.nft.ranges import Range
from nodeagent.linux.nft.transaction import Operation

Operations = tuple[list[Operation], list[Operation]]  # deletions, additions

_ADDRESS_MAPS = (program.SERVICE_IPS, shared.ENDPOINTS, program.NO_ENDPOINT_SERVICES)
_NODE_MAPS = (program.SERVICE_NODEPORTS, shared.NODEPORT_ENDPOINTS, program.NO_ENDPOINT_NODEPORTS)
EMPTY = Placement("")


class Need(NamedTuple):
    """A shared chain that must be there, with the ranges that a firewall is made of."""

    name: str
    ranges: tuple[Range, ...] = ()


class Change(NamedTuple):
    """One frontend or one set member on its way into the kernel or out of it; goes in one transaction, whole.

    `after` None for a frontend: it is to be gone. `present` is for members.
    """

    owner: ObjectKey
    identity: bytes
    deletes: tuple[Operation, ...] | list[Operation]
    adds: tuple[Operation, ...] | list[Operation]
    after: Placement | None = None
    needs: tuple[Need, ...] = ()
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
    width = ENDPOINT_WIDTHS[family]
    old = before or EMPTY
    new = arranged(old, wanted, width) if wanted is not None else EMPTY
    deletes: list[Operation] = list(strays)
    adds: list[Operation] = []
    if old.firewall != new.firewall:
        _verdict(frontend, program.FIREWALL_IPS, (old.firewall, new.firewall), (deletes, adds))
    _endpoints(frontend, old, new, (deletes, adds))
    if old.chain != new.chain or old.refusal != new.refusal:
        verdicts, _, refusals = maps_of(frontend)
        _verdict(frontend, verdicts, (old.chain, new.chain), (deletes, adds))
        _verdict(frontend, refusals, (old.refusal, new.refusal), (deletes, adds))
    if not deletes and not adds:
        return None
    return Change(owner, frontend, deletes, adds, None if wanted is None else new, _needs(old, new))


def _needs(old: Placement, new: Placement) -> tuple[Need, ...]:
    firewall = (Need(new.firewall, new.ranges),) if new.firewall and new.firewall != old.firewall else ()
    return (Need(new.chain), *firewall) if new.chain and new.chain != old.chain else firewall


def _endpoints(frontend: bytes, old: Placement, new: Placement, into: Operations) -> None:
    """Frontends with affinity have their endpoints in maps of their own."""
    was, now = old, new
    if is_private(old.chain) or is_private(new.chain):
        _sticky(frontend, old, new, into)
        was, now = (EMPTY if is_private(one.chain) else one for one in (old, new))
    if was.slots != now.slots:
        _list(frontend, 0, was.slots, now.slots, into)
    if was.local != now.local:
        _list(frontend, LOCAL_OFFSET, was.local, now.local, into)


def _list(frontend: bytes, offset: int, before: bytes, after: bytes, into: Operations) -> None:
    family, width = frontend[0], ENDPOINT_WIDTHS[frontend[0]]
    if before:
        _slots(frontend, offset, changed(before, after, width), into)
    else:
        name, adds = maps_of(frontend)[1], into[1]
        adds += [(family, name, element) for element in elements.endpoints(frontend[1:], offset, after, width)]


def _sticky(frontend: bytes, old: Placement, new: Placement, into: Operations) -> None:
    family, width = frontend[0], ENDPOINT_WIDTHS[frontend[0]]
    before, after = (
        affinity.elements_of(frontend, one.slots, one.local, width) if is_private(one.chain) else {}
        for one in (old, new)
    )
    into[0].extend(
        (family, name, elements.member(key)) for (name, key), v in before.items() if after.get((name, key)) != v
    )
    into[1].extend(
        (family, name, elements.pair(key, v)) for (name, key), v in after.items() if before.get((name, key)) != v
    )


def _slots(frontend: bytes, offset: int, found: list[SlotChange], into: Operations) -> None:
    family, key, name = frontend[0], frontend[1:], maps_of(frontend)[1]
    for slot, gone, come in found:
        if gone is not None:
            into[0].append((family, name, elements.member(elements.slot_key(key, slot + offset))))
        if come is not None:
            into[1].append((family, name, elements.endpoint(key, slot + offset, come)))


def _verdict(frontend: bytes, name: str, values: tuple[str, str], into: Operations) -> None:
    was, now = values
    if was != now and was:
        into[0].append((frontend[0], name, elements.member(frontend[1:])))
    if was != now and now:
        into[1].append((frontend[0], name, nft_sets.dispatch(frontend[1:], now)))


def arranged(before: Placement, wanted: Placement, width: int) -> Placement:
    """The wanted placement with the slots that keep most of what stands."""
    slots, local = arrange(before.slots, wanted.slots, width), arrange(before.local, wanted.local, width)
    if slots is wanted.slots and local is wanted.local:
        return wanted
    return replace(wanted, slots=slots, local=local)


def member_change(owner: ObjectKey, member: bytes, present: bool) -> Change:
    """What puts a set's member in or takes it out."""
    elements_of = nft_sets.operations(member)
    deletes, adds = ([], elements_of) if present else (elements_of, [])
    return Change(owner, member, deletes, adds, member=True, present=present)
