"""Random changes to a Service, and what somebody waits for after each."""

from __future__ import annotations

import random
from itertools import count
from typing import NamedTuple

from tests.waits.objects import SERVICES, SLICES, Objects, Place, Put, Served

MOST = 3  # endpoints of a Service: more would need more packets
PORTS = (80, 81, 443)


class Change(NamedTuple):
    """What was done. `left`: endpoints that the Service has lost; `former`: where clients no longer connect to."""

    kind: str
    service: Served
    written: tuple[Put, ...]
    left: tuple[str, ...] = ()
    former: tuple[Place, ...] = ()


class Changes:
    """Of one run. Addresses of endpoints and ClusterIPs are used once."""

    def __init__(self, objects: Objects, chance: random.Random, services: int) -> None:
        self._objects, self.chance = objects, chance
        self._numbers, self._vips = count(1), count(256)
        self.services = [Served(number, self._vip()) for number in range(services)]
        self.first: tuple[Put, ...] = ()
        for service in self.services:
            service.endpoints = [self._address() for _ in range(chance.randint(1, MOST))]
            self.first = self._write(service, SERVICES, SLICES)

    def _address(self) -> str:
        number = next(self._numbers)
        return f"10.1.{number // 250}.{number % 250 + 1}"

    def _vip(self) -> str:
        number = next(self._vips)
        return f"10.{97 + number // 60_000}.{number // 250 % 240}.{number % 250 + 1}"

    def _poison(self, node: int) -> str:
        return f"10.96.{200 + node}.{next(self._vips) % 250 + 1}"

    def _write(self, service: Served, *resources: str) -> tuple[Put, ...]:
        of = {SERVICES: service.service, SLICES: service.slice}
        return tuple(self._objects.put(each, of[each]()) for each in resources)

    def one(self, service: Served) -> Change:
        """Any change that the Service allows."""
        if not service.there:
            return self.add(service)
        ways = [self.more, self.port, self.several, self.remove, self.replace]
        if len(service.endpoints) > 1:
            ways += [self.fewer, self.fewer]
        elif service.endpoints:
            ways += [self.fewer]
        return self.chance.choice(ways)(service)

    def add(self, service: Served) -> Change:
        service.vip, service.port, service.there = self._vip(), self.chance.choice(PORTS), True
        service.endpoints = [self._address() for _ in range(self.chance.randint(1, MOST))]
        return Change("Service added", service, self._write(service, SERVICES, SLICES))

    def remove(self, service: Served) -> Change:
        left, former = tuple(service.endpoints), (service.place,)
        service.there, service.endpoints = False, []
        gone = (self._objects.remove(SLICES, f"{service.name}-a"), self._objects.remove(SERVICES, service.name))
        return Change("Service removed", service, gone, left, former)

    def more(self, service: Served) -> Change:
        left = (service.endpoints.pop(0),) if len(service.endpoints) == MOST else ()
        service.endpoints.append(self._address())
        return Change("endpoint added", service, self._write(service, SLICES), left)

    def fewer(self, service: Served) -> Change:
        left = (service.endpoints.pop(self.chance.randrange(len(service.endpoints))),)
        return Change("endpoint removed", service, self._write(service, SLICES), left)

    def replace(self, service: Served) -> Change:
        left = tuple(service.endpoints)
        service.endpoints = [self._address() for _ in range(self.chance.randint(1, MOST))]
        return Change("endpoints replaced", service, self._write(service, SLICES), left)

    def port(self, service: Served) -> Change:
        former = (service.place,)
        service.port = self.chance.choice([port for port in PORTS if port != service.port])
        return Change("port changed", service, self._write(service, SERVICES), former=former)

    def several(self, service: Served) -> Change:
        """ClusterIP and endpoints at once."""
        left, former = tuple(service.endpoints), (service.place,)
        service.vip, service.endpoints = self._vip(), [self._address()]
        return Change("several at once", service, self._write(service, SERVICES, SLICES), left, former)

    def poison(self, service: Served, node: int) -> Change:
        """The Service gets a ClusterIP that this node's kernel refuses."""
        former, was = (service.place,), service.there
        service.vip, service.there = self._poison(node), True
        if not service.endpoints:
            service.endpoints = [self._address()]
        written = self._write(service, SERVICES, SLICES)
        return Change("Service poisoned", service, written, former=former if was else ())

    def mend(self, service: Served) -> Change:
        """It gets one that no kernel refuses."""
        former = (service.place,)
        service.vip = self._vip()
        return Change("Service mended", service, self._write(service, SERVICES), former=former)
