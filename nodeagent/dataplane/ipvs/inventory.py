"""Reads what the kernel holds of ours into `state`, and makes what must be there before anything else. Edge of reading.

The link's addresses and the sets come first: they say which virtual servers are ours.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator

from deltaplane.forwarding import Target
from nodeagent.dataplane.ipvs import names, sets
from nodeagent.dataplane.ipvs import wire as codec
from nodeagent.dataplane.ipvs.kernel import Channel
from nodeagent.dataplane.ipvs.names import ADDRESS, DEVICE, Element
from nodeagent.dataplane.ipvs.netlink_batch import Courier, Order, reason
from nodeagent.dataplane.ipvs.objects import Held, Real, VirtualKey
from nodeagent.dataplane.ipvs.state import State
from nodeagent.errors import DataplaneUnavailable
from nodeagent.linux.netlink import rtnetlink as rt
from nodeagent.linux.netlink import wire


class Found:
    """What a reading brought beside the state: the sets that are missing."""

    def __init__(self) -> None:
        self.missing: list[tuple[int, str]] = []
        self.foreign: list[tuple[int, str]] = []  # sets with a name of ours and another type


def read(courier: Courier, state: State, families: Iterable[int]) -> Found:
    """Takes over what the kernel holds. Raises OSError."""
    state.clear()
    found = Found()
    read_link(courier, state)
    _read_addresses(courier, state)
    for family in families:
        for name in names.TYPES:
            _read_set(courier, state, found, family, name)
    for key, held in _services(courier):
        if key.family in families and state.is_ours(key):
            state.virtuals[key] = held
    for key, held in state.virtuals.items():
        reals = list(_reals(courier, key))
        held.reals = {real.target: real.weight for real in reals}
        held.idle = tuple(real.target for real in reals if not real.weight and not real.connections)
        held.active = any(real.active for real in reals)
    return found


def read_link(courier: Courier, state: State) -> None:
    try:
        body = next(courier.ask(Channel.ROUTE, Order(rt.GET_LINK, rt.link(DEVICE)), listing=False))
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        state.link = 0
    else:
        state.link = rt.read_link(body)[0]


def _read_addresses(courier: Courier, state: State) -> None:
    others = set()
    for body in courier.ask(Channel.ROUTE, Order(rt.GET_ADDRESS, rt.all_addresses())):
        found = rt.read_address(body)
        if found is not None and found.link != state.link:
            others.add(found.address)
        elif found is not None and not is_automatic(found.address):
            state.elements.add(Element(found.family, ADDRESS, found.address))
    state.others = frozenset(others)


def is_automatic(address: bytes) -> bool:
    """What the kernel gives a link of itself."""
    return len(address) == 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80


def _read_set(courier: Courier, state: State, found: Found, family: int, name: str) -> None:
    kind, width = names.TYPES[name], 4 if family == 4 else 16
    try:
        bodies = list(courier.ask(Channel.SETS, Order(sets.LIST, sets.about(names.named(family, name)))))
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
            state.elements.add(Element(family, name, key))
            if mark:
                state.note_mark(_marked(family, width, key), mark)


def _fits(header: sets.Header, kind: str, family: int) -> bool:
    return header.type == kind and (kind == names.BITMAP_PORT or header.family == rt.AF[family])


def _marked(family: int, width: int, key: bytes) -> VirtualKey:
    return VirtualKey(family, key[width], key[:width], int.from_bytes(key[width + 1 :], "big"))


def _services(courier: Courier) -> Iterator[tuple[VirtualKey, Held]]:
    for body in list(courier.ask(Channel.IPVS, Order(codec.GET_SERVICE, b""))):
        found = codec.read_service(body)
        if found is not None:
            yield found[0], Held(found[1])


def keys(courier: Courier) -> dict[VirtualKey, Held]:
    """Every virtual server there is, without its real servers. Raises OSError."""
    return dict(_services(courier))


def read_reals(courier: Courier, key: VirtualKey) -> dict[Target, int]:
    """The real servers of one virtual server and their weights. Raises OSError."""
    return {real.target: real.weight for real in _reals(courier, key)}


def _reals(courier: Courier, key: VirtualKey) -> Iterator[Real]:
    bodies = courier.ask(Channel.IPVS, Order(codec.GET_DEST, codec.service(key)))
    return (codec.read_dest(key.family, body) for body in bodies)


def make(courier: Courier, state: State, found: Found) -> None:
    """Makes the link and the sets that are missing. Raises DataplaneUnavailable, KernelUnavailable, OSError."""
    for family, name in found.foreign:
        raise DataplaneUnavailable(
            f"ipvs: the set {names.named(family, name)} is there and not a {names.TYPES[name]}: remove it"
        )
    if not state.link:
        _make_link(courier, state)
    newest = {kind: _newest(courier, kind) for kind in {names.TYPES[name] for _, name in found.missing}}
    orders = [
        Order(sets.CREATE, sets.create(family, name, newest[names.TYPES[name]])) for family, name in found.missing
    ]
    for number, code in courier.send(Channel.SETS, orders).items():
        family, name = found.missing[number]
        raise DataplaneUnavailable(f"ipvs: making the set {names.named(family, name)} failed ({reason(code)})")
    found.missing.clear()


def _make_link(courier: Courier, state: State) -> None:
    order = Order(rt.NEW_LINK, rt.link(DEVICE, "dummy"), wire.CREATE | wire.EXCLUSIVE)
    for code in courier.send(Channel.ROUTE, [order]).values():
        raise DataplaneUnavailable(f"ipvs: making the link {DEVICE} failed ({reason(code)}): load the module dummy")
    read_link(courier, state)


def _newest(courier: Courier, kind: str) -> int:
    try:
        return sets.read_revision(next(courier.ask(Channel.SETS, Order(sets.TYPE, sets.revision(kind)), listing=False)))
    except OSError as error:
        raise DataplaneUnavailable(f"ipvs: this kernel has no sets of type {kind}: load the module ip_set") from error
