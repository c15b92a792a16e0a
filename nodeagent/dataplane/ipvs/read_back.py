"""IPVS, sets and the link read back for people, as `nodeagent.dataplane.read_back` has frontends and members.

Changes nothing. Each virtual server, element and address in question is asked for alone; only the rules, of which there
are as many whatever the Services, are listed whole.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import ip_address
from typing import NamedTuple

from deltaplane.forwarding import ServiceForwarding, Target
from deltaplane.model import WIDTHS
from nodeagent.dataplane import frontend_key
from nodeagent.dataplane.ipvs import inventory, names, render, sets
from nodeagent.dataplane.ipvs import wire as codec
from nodeagent.dataplane.ipvs.desired import Desired
from nodeagent.dataplane.ipvs.ensure_base import Base
from nodeagent.dataplane.ipvs.kernel import Channel
from nodeagent.dataplane.ipvs.names import ADDRESS, DROP, OUTSIDE_MARK, Element, place
from nodeagent.dataplane.ipvs.netlink_batch import NetlinkBatch, Order
from nodeagent.dataplane.ipvs.objects import Manner, Virtual, VirtualKey, described, mark_key, served_at
from nodeagent.dataplane.ipvs.state import State
from nodeagent.dataplane.read_back import Found, Written
from nodeagent.linux.netlink import rtnetlink as rt

_NOT_IN_IT = 4103  # IPSET_ERR_EXIST


class Server(NamedTuple):
    """A virtual server as it is somewhere. `targets`: those that get new connections."""

    manner: Manner
    targets: tuple[Target, ...]


Servers = Callable[[VirtualKey], Server | None]


class Reading:
    """For the frontends and Services in question."""

    def __init__(
        self, desired: Desired, state: State, base: Base, keys: Iterable[bytes], services: Sequence[ServiceForwarding]
    ) -> None:
        self._desired, self._state, self._base = desired, state, base
        self._keys = list(keys)
        self._families = [family for family in desired.families if family in {key[0] for key in self._keys}]
        self._virtuals: dict[VirtualKey, Virtual] = {}
        self._elements: dict[Element, None] = {}
        for each in services:
            self._plan(each)

    def _plan(self, service: ServiceForwarding) -> None:
        desired = self._desired
        found = render.virtuals(service, desired.node_addresses, desired.settings, self._families)
        self._virtuals.update(found)
        extras = render.extras(service, self._families)
        self._elements.update(dict.fromkeys((*(e for v in found.values() for e in v.elements), *extras)))
        self._elements.update(
            dict.fromkeys(_marking(key) for key, virtual in found.items() if virtual.outside is not None)
        )

    def wanted(self) -> Found:
        """What is to be there."""
        marks = {key: virtual for key, virtual in self._virtuals.items() if virtual.outside is not None}

        def servers(key: VirtualKey) -> Server | None:
            virtual = self._virtuals.get(key)
            return None if virtual is None or virtual.targets is None else Server(virtual.manner, virtual.targets)

        def outside(key: VirtualKey) -> Server | None:
            virtual = marks.get(key)
            return None if virtual is None else Server(virtual.outside_manner, virtual.outside or ())

        return self._found(servers, outside, set(self._elements), set(self._families))

    def account(self) -> Found:
        """What the agent believes."""
        return self._found(self._held, self._by_mark(self._held), self._state.elements, set())

    def look(self, batch: NetlinkBatch) -> Found:
        """What the kernel has. Raises OSError, KernelUnavailable."""

        def servers(key: VirtualKey) -> Server | None:
            return _server(batch, key)

        elements = [*self._elements, *(e for key in self._asked() for e in (_marking(key), _dropping(key)))]
        there = set(_there(batch, list(dict.fromkeys(elements))))
        rules = {family for family in self._families if not self._base.lacking(batch.kernel, family)}
        return self._found(servers, self._by_mark(servers), there, rules)

    def _held(self, key: VirtualKey) -> Server | None:
        held = self._state.virtuals.get(key)
        if held is None:
            return None
        return Server(held.manner, tuple(sorted(target for target, weight in held.reals.items() if weight)))

    def _by_mark(self, servers: Servers) -> Servers:
        def outside(key: VirtualKey) -> Server | None:
            mark = self._state.marks.get(key)
            return None if mark is None else servers(mark_key(key.family, mark))

        return outside

    def _asked(self) -> Iterator[VirtualKey]:
        for key in self._keys:
            yield from self._places(key)

    def _places(self, key: bytes) -> list[VirtualKey]:
        """Where a frontend is: a node port at each address that it answers on."""
        held = frontend_key.held(key)
        own = self._desired.node_addresses.node_ports.get(held.family, ())
        return [
            VirtualKey(held.family, held.protocol, address, held.port)
            for address in ((held.address,) if held.address else own)
        ]

    def _found(self, servers: Servers, outside: Servers, elements: Iterable[Element], rules: set[int]) -> Found:
        there = set(elements)
        frontends: dict[bytes, Written] = {}
        for key in self._keys:
            ways = [_written(place, servers(place), outside(place), there) for place in self._places(key)]
            found = [each for each in ways if each is not None]
            if found:
                frontends[key] = _one(ways, found)
        members = [_name(element) for element in self._elements if element in there]
        return Found(
            frontends, frozenset((*members, *(f"rules of IPv{family} as they are written" for family in rules)))
        )


def _one(ways: Sequence[Written | None], found: Sequence[Written]) -> Written:
    """A node port is the same at all addresses, or that is said."""
    first = found[0]
    if all(each == first for each in ways):
        return first
    return Written(first.targets, first.local, first.refusal, f"{first.words}, and otherwise at some of its addresses")


def _written(key: VirtualKey, server: Server | None, outside: Server | None, there: set[Element]) -> Written | None:
    dropped = _dropping(key) in there
    if server is None:
        return Written((), (), "drop", f"in set {names.named(key.family, DROP)}") if dropped else None
    refusal = "drop" if dropped else "" if server.targets else "reject"
    said = [f"virtual server {described(key)} {_how(server.manner)}"] if key.address else []
    if outside is not None:
        said.append(f"for sources outside by mark {_how(outside.manner)}")
    local = () if outside is None else outside.targets
    return Written(tuple(sorted(server.targets)), tuple(sorted(local)), refusal, ", ".join(said))


def _how(manner: Manner) -> str:
    return f"{manner.scheduler} persistent {manner.timeout} s" if manner.timeout else manner.scheduler


def _marking(key: VirtualKey) -> Element:
    return Element(key.family, OUTSIDE_MARK, place(key.address, key.protocol, key.port))


def _dropping(key: VirtualKey) -> Element:
    return Element(key.family, DROP, place(key.address, key.protocol, key.port))


def _name(element: Element) -> str:
    """For people."""
    if element.set == ADDRESS:
        return f"address {ip_address(element.key)} on link {ADDRESS}"
    kind, width = names.TYPES[element.set], WIDTHS[element.family]
    name = names.named(element.family, element.set)
    if kind == names.BITMAP_PORT:
        return f"port {int.from_bytes(element.key, 'big')} in set {name}"
    if kind == names.HASH_IP:
        return f"{ip_address(element.key)} in set {name}"
    at, more = described(served_at(element._replace(key=element.key[: width + 3]))), element.key[width + 3 :]
    behind = f" with {ip_address(more[:width])}{f'/{more[width]}' if more[width:] else ''}" if more else ""
    return f"{at}{behind} in set {name}"


# ---------------------------------------------------------------- asking


def _server(batch: NetlinkBatch, key: VirtualKey) -> Server | None:
    order = Order(codec.GET_SERVICE, codec.service(key))
    try:
        found = codec.read_service(next(batch.ask(Channel.IPVS, order, listing=False)))
    except OSError as error:
        if error.errno == errno.ESRCH:
            return None
        raise
    reals = inventory.read_reals(batch, key)
    return None if found is None else Server(found[1], tuple(sorted(t for t, weight in reals.items() if weight)))


def _there(batch: NetlinkBatch, elements: Sequence[Element]) -> Iterator[Element]:
    """Those that are there."""
    for element in elements:
        if element.set == ADDRESS and rt.is_local(
            next(batch.ask(Channel.ROUTE, Order(rt.GET_ROUTE, rt.route(element.key)), listing=False))
        ):
            yield element
    members = [element for element in elements if element.set != ADDRESS]
    orders = [Order(sets.TEST, sets.test(each.family, each.set, each.key)) for each in members]
    refused = batch.send(Channel.SETS, orders) if orders else {}
    for code in refused.values():
        if code not in (_NOT_IN_IT, errno.ENOENT):
            raise OSError(code, f"asking for an element of a set: {sets.ERRORS.get(code, code)}")
    yield from (element for number, element in enumerate(members) if number not in refused)
