"""Random questions about one state of the corpus: from anybody, to what is there and to what is not. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import NamedTuple

from deltaplane.forwarding import Entry
from deltaplane.model import PROTOCOL_NAMES
from tests.flows.product import Product
from tests.flows.scenario import ADDRESSES, CLIENTS
from tests.flows.twin import twin

PROTOCOLS = ("tcp", "udp")  # few kernels have sockets of SCTP
_PORTS = (80, 81, 443, 30001, 30002, 30080)
_NOWHERE = ("198.51.100.7", "172.30.0.250", "172.30.77.3", "172.31.0.1", "10.180.9.9", "192.0.2.200")
_NEAR = (-1, 1, 2, 256)  # steps from an address that is there
_MOST_ENDPOINTS = 6  # of those that a state has, as clients and as places to go


class Question(NamedTuple):
    """Who connects to what; addresses as text."""

    source: str
    protocol: str
    to: str
    port: int

    def __str__(self) -> str:
        at = f"[{self.to}]" if ":" in self.to else self.to
        return f"{self.source} {self.protocol} {at}:{self.port}"


class Asker:
    """Questions about what a product holds at this moment. `own`: the node's addresses."""

    def __init__(self, product: Product, own: Iterable[str], chance: random.Random) -> None:
        self._chance, self._own = chance, sorted(own)
        self._entries = sorted(
            (entry for one in product.forwarding.values() for entry in one.entries),
            key=lambda entry: (entry.frontend, entry.port_name),
        )
        self._families = sorted({entry.frontend.family for entry in self._entries}) or [product.family]
        targets = sorted({str(ip_address(t.address)) for entry in self._entries for t in entry.targets})
        self._endpoints = targets[:_MOST_ENDPOINTS]
        self._ways: list[tuple[int, Callable[[int], tuple[str, str, int]]]] = [
            (40, self._frontend),
            (15, self._other_port),
            (15, self._node_port_anywhere),
            (10, self._nowhere),
            (10, self._near),
            (10, self._directly),
        ]

    def question(self) -> Question:
        """One question."""
        family = self._chance.choice(self._families)
        (way,) = self._chance.choices([way for _, way in self._ways], [weight for weight, _ in self._ways])
        protocol, to, port = way(family)
        return Question(self._source(family, to), protocol, to, port)

    def _source(self, family: int, to: str) -> str:
        clients = [*CLIENTS.values(), *ADDRESSES]
        known = [*(twin(clients) if family == 6 else clients), *_of(family, self._endpoints)]
        at_home = [each for each in known if _is_home(each, self._own)]
        if ip_address(to).is_loopback:  # what others mean by it is their own
            known = at_home
        elif to not in self._own:  # loopback does not leave a machine
            known = [each for each in known if not ip_address(each).is_loopback]
        chosen: str = self._chance.choice(sorted(set(known)))
        return chosen

    def _entry(self, family: int) -> Entry | None:
        of_family = [entry for entry in self._entries if entry.frontend.family == family]
        return self._chance.choice(of_family) if of_family else None

    def _frontend(self, family: int) -> tuple[str, str, int]:
        """What is there."""
        entry = self._entry(family)
        if entry is None:
            return self._nowhere(family)
        return self._protocol(entry), self._address(entry), entry.frontend.port

    def _other_port(self, family: int) -> tuple[str, str, int]:
        """An address that is there, with another port or protocol."""
        entry = self._entry(family)
        if entry is None:
            return self._nowhere(family)
        other = self._chance.choice([*_PORTS, entry.frontend.port, entry.frontend.port + 1])
        return self._chance.choice(PROTOCOLS), self._address(entry), other

    def _node_port_anywhere(self, family: int) -> tuple[str, str, int]:
        """A port of some frontend at any address of the node."""
        entry = self._entry(family)
        port = entry.frontend.port if entry is not None else self._chance.choice(_PORTS)
        own = [*_of(family, self._own), "127.0.0.1" if family == 4 else "::1"]
        return self._chance.choice(PROTOCOLS), self._chance.choice(own), port

    def _nowhere(self, family: int) -> tuple[str, str, int]:
        """What nobody has, in the Services' ranges or not."""
        address = self._chance.choice(_NOWHERE)
        return (
            self._chance.choice(PROTOCOLS),
            twin(address) if family == 6 else address,
            self._chance.choice(_PORTS),
        )

    def _near(self, family: int) -> tuple[str, str, int]:
        """An address beside one that is there."""
        entry = self._entry(family)
        if entry is None or not entry.frontend.address:
            return self._nowhere(family)
        there = ip_address(entry.frontend.address)
        step = self._chance.choice(_NEAR)
        near = str(there + step) if step > 0 else str(there - 1)
        return self._protocol(entry), near, entry.frontend.port

    def _directly(self, family: int) -> tuple[str, str, int]:
        """An endpoint, past the Service."""
        endpoints = _of(family, self._endpoints)
        if not endpoints:
            return self._nowhere(family)
        return self._chance.choice(PROTOCOLS), self._chance.choice(endpoints), self._chance.choice(_PORTS)

    def _protocol(self, entry: Entry) -> str:
        name = PROTOCOL_NAMES[entry.frontend.protocol]
        return name if name in PROTOCOLS else self._chance.choice(PROTOCOLS)

    def _address(self, entry: Entry) -> str:
        if entry.frontend.address:
            return str(ip_address(entry.frontend.address))
        return self._chance.choice(_of(entry.frontend.family, self._own))


def _of(family: int, addresses: Iterable[str]) -> list[str]:
    return [address for address in addresses if ip_address(address).version == family]


def _is_home(address: str, own: Iterable[str]) -> bool:
    return address in own or ip_address(address).is_loopback
