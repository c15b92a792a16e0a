"""Reads what the kernel holds of ours into `state`, and makes what must be there before anything else. Edge of reading.

The link's addresses and the sets come first: they say which virtual servers are ours.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator

from deltaplane.forwarding import Target
from deltaplane.model import WIDTHS
from nodeagent.dataplane.ipvs import names, sets
from nodeagent.dataplane.ipvs import wire as codec
from nodeagent.dataplane.ipvs.kernel import Channel
from nodeagent.dataplane.ipvs.names import ADDRESS, DEVICE, Element
from nodeagent.dataplane.ipvs.netlink_batch import NetlinkBatch, Order, reason
from nodeagent.dataplane.ipvs.objects import Held, Real, VirtualKey, served_at
from nodeagent.dataplane.ipvs.state import State
from nodeagent.errors import DataplaneUnavailable
from nodeagent.linux.netlink import rtnetlink as rt
from nodeagent.linux.netlink import wire


class Found:
    """What a reading brought beside the state: the sets that are missing."""

    def __init__(self) -> None:
        self.missing: list[tuple[int, str]] = []
        self.foreign: list[tuple[int, str]] = []  # sets with a name of ours and another type


def read(batch: NetlinkBatch, state: State, families: Iterable[int]) -> Found:
    """Takes over what the kernel holds. Raises OSError."""
    state.clear()
    found = Found()
    read_link(batch, state)
    _read_addresses(batch, state)
    for family in families:
        for name in names.TYPES:
            _read_set(batch, state, found, family, name)
    for key, held in _services(batch):
        if key.family in families and state.is_ours(key):
            state.virtuals[key] = held
    for key, held in state.virtuals.items():
        reals = list(_reals(batch, key))
        held.reals = {real.target: real.weight for real in reals}
        held.idle = tuple(real.target for real in reals if not real.weight and not real.connections)
        held.active = any(real.active for real in reals)
    return found


def read_link(batch: NetlinkBatch, state: State) -> None:
    try:
        body = next(batch.ask(Channel.ROUTE, Order(rt.GET_LINK, rt.link(DEVICE)), listing=False))
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        state.link = 0
    else:
        state.link = rt.read_link(body)[0]


def _read_addresses(batch: NetlinkBatch, state: State) -> None:
    others = set()
    for body in batch.ask(Channel.ROUTE, Order(rt.GET_ADDRESS, rt.all_addresses())):
        found = rt.read_address(body)
        if found is not None and found.link != state.link:
            others.add(found.address)
        elif found is not None and not is_automatic(found.address):
            state.elements.add(Element(found.family, ADDRESS, found.address))
    state.others = frozenset(others)


def is_automatic(address: bytes) -> bool:
    """What the kernel gives a link of itself."""
    return len(address) == 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80


def _read_set(batch: NetlinkBatch, state: State, found: Found, family: int, name: str) -> None:
    kind, width = names.TYPES[name], WIDTHS[family]
    try:
        bodies = list(batch.ask(Channel.SETS, Order(sets.LIST, sets.about(names.named(family, name)))))
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        found.missing.append((family, name))
        return
    for body in bodies:
        header = sets.read_header(body)
        if header is not None and not _fits(header, kind, family):
            found.foreign.append((family, name))
            return
        for key, mark in sets.read_elements(kind, width, body):
            element = Element(family, name, key)
            state.elements.add(element)
            if mark:
                state.note_mark(served_at(element), mark)


def _fits(header: sets.Header, kind: str, family: int) -> bool:
    return header.type == kind and (kind == names.BITMAP_PORT or header.family == rt.AF[family])


def _services(batch: NetlinkBatch) -> Iterator[tuple[VirtualKey, Held]]:
    for body in list(batch.ask(Channel.IPVS, Order(codec.GET_SERVICE, b""))):
        found = codec.read_service(body)
        if found is not None:
            yield found[0], Held(found[1])


def keys(batch: NetlinkBatch) -> dict[VirtualKey, Held]:
    """Every virtual server there is, without its real servers. Raises OSError."""
    return dict(_services(batch))


def read_reals(batch: NetlinkBatch, key: VirtualKey) -> dict[Target, int]:
    """The real servers of one virtual server and their weights. Raises OSError."""
    return {real.target: real.weight for real in _reals(batch, key)}


def _reals(batch: NetlinkBatch, key: VirtualKey) -> Iterator[Real]:
    bodies = batch.ask(Channel.IPVS, Order(codec.GET_DEST, codec.service(key)))
    return (codec.read_dest(key.family, body) for body in bodies)


def make(batch: NetlinkBatch, state: State, found: Found) -> None:
    """Makes the link and the sets that are missing. Raises DataplaneUnavailable, KernelUnavailable, OSError."""
    for family, name in found.foreign:
        raise DataplaneUnavailable(
            f"ipvs: the set {names.named(family, name)} is there and not a {names.TYPES[name]}: remove it"
        )
    if not state.link:
        _make_link(batch, state)
    newest = {kind: newest_revision(batch, kind) for kind in {names.TYPES[name] for _, name in found.missing}}
    orders = [
        Order(sets.CREATE, sets.create(family, name, newest[names.TYPES[name]])) for family, name in found.missing
    ]
    for number, code in batch.send(Channel.SETS, orders).items():
        family, name = found.missing[number]
        raise DataplaneUnavailable(f"ipvs: making the set {names.named(family, name)} failed ({reason(code)})")
    found.missing.clear()


def _make_link(batch: NetlinkBatch, state: State) -> None:
    order = Order(rt.NEW_LINK, rt.link(DEVICE, "dummy"), wire.CREATE | wire.EXCLUSIVE)
    for code in batch.send(Channel.ROUTE, [order]).values():
        raise DataplaneUnavailable(f"ipvs: making the link {DEVICE} failed ({reason(code)}): load the module dummy")
    read_link(batch, state)


def newest_revision(batch: NetlinkBatch, kind: str) -> int:
    """The newest revision of a type of sets that this kernel has. Raises DataplaneUnavailable."""
    try:
        return sets.read_revision(next(batch.ask(Channel.SETS, Order(sets.TYPE, sets.revision(kind)), listing=False)))
    except OSError as error:
        why = reason(error.errno or 0)
        raise DataplaneUnavailable(
            f"ipvs: no sets of type {kind} ({why}): load ip_set or choose another mode"
        ) from error
