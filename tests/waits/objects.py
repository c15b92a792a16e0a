"""The objects of a run: Services and slices as three API servers say them, and what they mean, computed without the
product.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults.api import Api, api

NAMESPACE = "default"
TARGET = 8080  # the port of every endpoint
SERVICES, SLICES = "services", "endpointslices"
Object = dict[str, Any]
Place = tuple[str, int]  # an address and a port, where clients connect to


class Put(NamedTuple):
    """An object as it was written, or deleted: what somebody waits for."""

    resource: str
    name: str
    version: int


@dataclass(eq=False)
class Served:
    """A Service. `endpoints`: their addresses; `there`: it exists; `title`: its name, where it is no number."""

    number: int
    vip: str
    port: int = 80
    endpoints: list[str] = field(default_factory=list)
    there: bool = True
    title: str = ""

    @property
    def name(self) -> str:
        return self.title or f"s{self.number}"

    @property
    def place(self) -> Place:
        return self.vip, self.port

    @property
    def wanted(self) -> frozenset[str]:
        """Endpoints that a client of its place reaches."""
        return frozenset(self.endpoints if self.there else ())

    def service(self) -> Object:
        ports = [{"port": self.port, "protocol": "UDP", "targetPort": TARGET}]
        spec = {"clusterIP": self.vip, "clusterIPs": [self.vip], "ports": ports}
        return {"kind": "Service", "metadata": {"name": self.name, "namespace": NAMESPACE}, "spec": spec}

    def slice(self) -> Object:
        labels = {"kubernetes.io/service-name": self.name}
        return {
            "kind": "EndpointSlice",
            "addressType": "IPv4",
            "metadata": {"name": f"{self.name}-a", "namespace": NAMESPACE, "labels": labels},
            "ports": [{"name": "", "port": TARGET, "protocol": "UDP"}],
            "endpoints": [{"addresses": [one], "conditions": {"ready": True}} for one in self.endpoints],
        }


STEADY = Served(0, "10.96.0.10", endpoints=["10.2.0.1"], title="steady")  # no change touches it


class Objects:
    """`servers`: one for each replica, which all say the same, but for one that is held back."""

    def __init__(self, folder: Path, stack: ExitStack, replicas: int) -> None:
        self.servers = [stack.enter_context(api(folder / f"api{number}")) for number in range(replicas)]
        self.version = self.servers[0].version
        self._lock = threading.Lock()
        self._held: dict[int, list[tuple[str, Object | str]]] = {}  # by server, what it is still to say

    def put(self, resource: str, thing: Object) -> Put:
        """Writes it everywhere."""
        return self._say(resource, thing["metadata"]["name"], thing)

    def remove(self, resource: str, name: str) -> Put:
        return self._say(resource, name, name)

    def _say(self, resource: str, name: str, what: Object | str) -> Put:
        with self._lock:
            self.version += 1
            for number, server in enumerate(self.servers):
                if number in self._held:
                    self._held[number].append((resource, what))
                else:
                    _take(server, resource, what)
            return Put(resource, name, self.version)

    @contextmanager
    def held(self, number: int) -> Iterator[None]:
        """This server says nothing new meanwhile."""
        self.hold(number)
        try:
            yield
        finally:
            self.release(number)

    def hold(self, number: int) -> None:
        with self._lock:
            self._held[number] = []

    def release(self, number: int) -> None:
        """It says what it has kept to itself."""
        with self._lock:
            for resource, what in self._held.pop(number, ()):
                _take(self.servers[number], resource, what)


def _take(server: Api, resource: str, what: Object | str) -> None:
    if isinstance(what, str):
        server.remove(resource, what)
    else:
        server.put(resource, what)
