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
from controlplane.session import Session
from controlplane.snapshot import Snapshots
from controlplane.store import Store
from deltaplane.model import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Family,
    Node,
    Object,
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


class Changes:
    """One endpoint of one Service goes, comes or is replaced. Three changes in a row leave the size as it was."""

    def __init__(self, services: int, endpoints: int) -> None:
        self._slices = [thing for thing in objects(services, endpoints) if isinstance(thing, EndpointSlice)]
        self._serial = services * endpoints
        self._which, self._random = random.Random(1), random.Random(2)
        self._made = 0
        self._number = 0

    def next(self) -> Fact:
        """The slice as it is after one more change."""
        what = CHANGES[self._made % len(CHANGES)]
        self._made += 1
        if what != "added":
            self._number = self._which.randrange(len(self._slices))
        kept = list(self._slices[self._number].endpoints)
        if what != "added":
            kept.pop(self._random.randrange(len(kept)))
        if what != "removed":
            kept.append(endpoint(self._serial))
            self._serial += 1
        new = endpoint_slice(self._number, tuple(sorted(kept, key=lambda one: one.address)))
        self._slices[self._number] = new
        return Fact(new.key, new, str(self._made), time.time_ns())


class Replica:
    """A control plane without sockets: says the cluster, then one change after another."""

    def __init__(self, services: int, endpoints: int) -> None:
        self._store, self._log = Store(), Log()
        self._changes = Changes(services, endpoints)
        self._store.update([Fact(thing.key, thing) for thing in objects(services, endpoints)])
        self._log.begin(self._store.digest.value)

    def beginning(self) -> list[bytes]:
        """Welcome and snapshot, as an agent without any state is sent them."""
        stream = Session(self._store, self._log, Snapshots(self._store, self._log))
        hello = pb.Hello(node_name=NODE, protocol_min=1, protocol_max=1, encodings=[pb.ENCODING_ZLIB])
        stream.on_message(pb.WatchRequest(hello=hello), 0.0)
        messages = []
        while (message := stream.next_message(0.0)) is not None:
            messages.append(message)
        return messages

    def change(self) -> bytes:
        """The Delta of one change."""
        changes = self._store.update([self._changes.next()], time.time_ns())
        digest, versions = self._store.digest.value, self._store.versions
        now, clock = time.monotonic(), time.time_ns()
        (batch,) = self._log.append(changes, digest=digest, versions=versions, now=now, unix_nano=clock)
        return batch.message


def write(file: BinaryIO, message: bytes) -> None:
    """One frame: length, message."""
    file.write(_LENGTH.pack(len(message)) + message)


def read(file: BinaryIO) -> Iterator[bytes]:
    """The frames that are left."""
    while head := file.read(_LENGTH.size):
        yield file.read(_LENGTH.unpack(head)[0])
