"""A network whose endpoints are any number of addresses, and the objects that name them.

One namespace, the crowd, answers for every endpoint of the cluster: TCP on port 8080 is refused by all but the
listeners, so that a connection through a Service shows by its end which it met, and 100,000 endpoints cost nothing.

    zone-a, zone-b, zone-c    10.64.0.0/12, 10.80.0.0/12, 10.96.0.0/12
    replacements              10.112.0.0/13, counted on
    listeners                 10.120.0.1 and the next
"""

from __future__ import annotations

import ipaddress
import itertools
import uuid
from collections.abc import Iterable, Sequence

from tools.lab import fabric as fabrics
from tools.lab import rules
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric
from tools.lab.manifests import Object, endpoint_slice, slice_port

EVERYBODY = "10.64.0.0/10"
ZONES = ("zone-a", "zone-b", "zone-c")
LOST = "zone-c"
PORT = 8080
LISTENERS = 64
_REPLACED, _LISTENING = (int(ipaddress.ip_address(text)) for text in ("10.112.0.1", "10.120.0.1"))
_FIRST = {zone: int(ipaddress.ip_address(f"10.{64 + 16 * number}.0.1")) for number, zone in enumerate(ZONES)}


def join(fabric: Fabric, servers: EchoServers) -> None:
    """Puts the crowd behind the router; its listeners are open until `servers` are closed."""
    crowd = fabrics.host(fabric, "crowd", "control", ("198.51.100.4", "2001:db8:c::4"))
    fabric.wiring.route(fabric.router, EVERYBODY, crowd.v4, "control")
    rules.run(crowd.space, "ip", "route", "add", "local", EVERYBODY, "dev", "lo")
    for address in listeners():
        servers.start(crowd.space, address, PORT, name=address)


def listeners() -> list[str]:
    """The addresses that let connections in."""
    return [str(ipaddress.ip_address(_LISTENING + number)) for number in range(LISTENERS)]


def zone_of(number: int, place: int) -> str:
    """Of the endpoint at this place of this Service: each zone has a third of all, whatever the number of endpoints."""
    return ZONES[(number + place) % len(ZONES)]


def endpoint(address: str, zone: str) -> Object:
    return {"addresses": [address], "conditions": {"ready": True}, "nodeName": f"far-{zone}", "zone": zone}


class Addresses:
    """Which endpoint has which address. No two endpoints of a cluster have the same."""

    def __init__(self) -> None:
        self._serial = dict.fromkeys(ZONES, 0)
        self._replaced = itertools.count(_REPLACED)
        self._listening = itertools.cycle(listeners())

    def first(self, zone: str) -> Object:
        """An endpoint of the cluster as it begins."""
        self._serial[zone] += 1
        return endpoint(str(ipaddress.ip_address(_FIRST[zone] + self._serial[zone])), zone)

    def replacement(self, zone: str) -> Object:
        """An endpoint that comes in another's place and refuses, too."""
        return endpoint(str(ipaddress.ip_address(next(self._replaced))), zone)

    def listening(self, zone: str) -> Object:
        """One that lets connections in."""
        return endpoint(next(self._listening), zone)


def far_nodes() -> Iterable[Object]:
    """The nodes that the endpoints are on: one per zone, without a proxy."""
    for number, zone in enumerate(ZONES):
        addresses = [{"type": "InternalIP", "address": f"192.168.0.{100 + number}"}]
        yield {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": f"far-{zone}", "labels": {"topology.kubernetes.io/zone": zone}},
            "status": {"addresses": addresses},
        }


def stored(service: str, endpoints: Sequence[Object], name: str) -> Object:
    """A slice as the API server has it in etcd: with what it would have filled in."""
    made = endpoint_slice(service, endpoints, [slice_port(PORT, "http")], name=name)
    made["metadata"] |= {
        "uid": str(uuid.uuid5(uuid.NAMESPACE_DNS, name)),
        "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    return made
