"""Made-up clusters of any size, and what a control plane says of them: for (a), (b) and the agent's memory.

Called by `agent` (messages in a file) and `replica` (a real control plane's server on such a state). The same numbers
always give the same cluster.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from struct import Struct
from typing import BinaryIO

from controlplane.facts import Fact
from controlplane.log import Log
from controlplane.nodes import Nodes
from controlplane.session import Session
from controlplane.snapshot import Snapshots
from controlplane.store import Store
from deltaplane.model import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Family,
    Kind,
    Node,
    Object,
    ObjectKey,
    Protocol,
    Service,
    ServicePort,
    ServiceType,
)
from deltaplane.v1 import delta_pb2 as pb

NODE = "node-1"
NODES = 100
CLUSTER_CIDRS = ("10.0.0.0/8", "fd00::/8")
CHANGES = ("removed", "added", "replaced")  # what happens to the one endpoint, in turn

_LENGTH = Struct("<I")


def nodes() -> list[Node]:
    """NODES nodes in three zones."""
    return [
        Node(f"node-{n}", f"uid-{n}", (bytes((192, 168, n >> 8, n & 255)),), f"zone-{n % 3}")
        for n in range(1, NODES + 1)
    ]


def service(number: int) -> Service:
    """One TCP port on one IPv4 address."""
    address = (0xAC100000 + number + 1).to_bytes(4, "big")
    ports = (ServicePort("http", Protocol.TCP, 80),)
    return Service("default", f"service-{number}", ServiceType.CLUSTER_IP, (address,), ports)


def endpoint(serial: int) -> Endpoint:
    """The pod with this serial number; no two have the same address."""
    where = serial % NODES + 1
    return Endpoint((0x0A000000 + serial + 1).to_bytes(4, "big"), node=f"node-{where}", zone=f"zone-{where % 3}")


def endpoint_slice(number: int, endpoints: tuple[Endpoint, ...]) -> EndpointSlice:
    """The Service's only slice."""
    ports = (EndpointPort("http", Protocol.TCP, 8080),)
    name = f"service-{number}"
    return EndpointSlice("default", f"{name}-abcde", name, Family.IPV4, ports, endpoints)


def objects(services: int, endpoints: int) -> Iterator[Object]:
    """The whole cluster."""
    yield from nodes()
    for number in range(services):
        yield service(number)
        yield endpoint_slice(number, tuple(endpoint(number * endpoints + n) for n in range(endpoints)))


class Replica:
    """A control plane without sockets: says the cluster, then one endpoint's change after another."""

    def __init__(self, services: int, endpoints: int) -> None:
        self.services, self.store, self.log = services, Store(), Log()
        self.store.update([Fact(thing.key, thing) for thing in objects(services, endpoints)])
        self.log.begin()
        self._next = services * endpoints
        self._random = random.Random(1)
        self._chosen = 0
        self._made = 0

    def beginning(self) -> list[bytes]:
        """Welcome and snapshot, as an agent without any state is sent them."""
        stream = Session(self.store, self.log, Snapshots(self.store, self.log), Nodes())
        hello = pb.Hello(node_name=NODE, protocol_min=1, protocol_max=1, encodings=[pb.ENCODING_ZLIB])
        stream.on_message(pb.WatchRequest(hello=hello), 0.0)
        messages = []
        while (message := stream.next_message(0.0)) is not None:
            messages.append(message)
        return messages

    def change(self) -> bytes:
        """One endpoint of one Service goes, comes or is replaced: the Delta. Three in a row leave the size as it was."""
        what = CHANGES[self._made % len(CHANGES)]
        self._made += 1
        if what == "removed" or what == "replaced":
            self._chosen = self._random.randrange(self.services)
        key = ObjectKey(Kind.ENDPOINT_SLICE, "default", f"service-{self._chosen}-abcde")
        held = self.store.get(key)
        assert isinstance(held, EndpointSlice)
        kept = list(held.endpoints)
        if what != "added":
            kept.pop(self._random.randrange(len(kept)))
        if what != "removed":
            kept.append(endpoint(self._next))
            self._next += 1
        return self._append(endpoint_slice(self._chosen, tuple(sorted(kept, key=lambda one: one.address))))

    def _append(self, new: EndpointSlice) -> bytes:
        version = str(self.log.head + 1)
        changes = self.store.update([Fact(new.key, new, version, time.time_ns())], time.time_ns())
        (batch,) = self.log.append(
            changes,
            digest=self.store.digest.value,
            versions=self.store.versions,
            now=time.monotonic(),
            unix_nano=time.time_ns(),
        )
        return batch.message


def write(file: BinaryIO, message: bytes) -> None:
    """One frame: length, message."""
    file.write(_LENGTH.pack(len(message)) + message)


def read(file: BinaryIO) -> Iterator[bytes]:
    """The frames that are left."""
    while head := file.read(_LENGTH.size):
        yield file.read(_LENGTH.unpack(head)[0])
