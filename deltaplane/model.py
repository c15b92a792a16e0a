"""The objects a Service proxy needs, as frozen values compared by content.

Both programs speak in these from the source to the mirror; the wire form is in `codec`, hashes are in `digest`.
Canonical form: addresses are packed network-order bytes (4 or 16); sequences are sorted where the field says so, so
that two replicas that saw the same API objects hold equal values. Field names follow the Kubernetes API.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import NamedTuple

from msgspec import Struct


class Kind(IntEnum):
    """Kinds of objects, numbered as on the wire (`deltaplane.v1.Kind`)."""

    SERVICE = 1
    ENDPOINT_SLICE = 2
    NODE = 3
    SERVICE_CIDR = 4


ServiceName = tuple[str, str]  # namespace, name


class ObjectKey(NamedTuple):
    """An object's name; `namespace` is empty for cluster-scoped kinds."""

    kind: Kind
    namespace: str
    name: str

    def __str__(self) -> str:
        name = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{KIND_NAMES[self.kind]} {name}"


KIND_NAMES = {
    Kind.SERVICE: "Service",
    Kind.ENDPOINT_SLICE: "EndpointSlice",
    Kind.NODE: "Node",
    Kind.SERVICE_CIDR: "ServiceCIDR",
}


class Protocol(IntEnum):
    """IANA protocol numbers, as the kernel and the wire have them."""

    TCP = 6
    UDP = 17
    SCTP = 132


PROTOCOL_NAMES = {int(number): number.name.lower() for number in Protocol}  # as the kernel's programs have them
PROTOCOL_NUMBERS = {name: number for number, name in PROTOCOL_NAMES.items()}


def protocol_name(number: int) -> str:
    """For people, such as TCP; the number where it has no name here."""
    return PROTOCOL_NAMES.get(number, str(number)).upper()


class Family(IntEnum):
    """Address families, numbered as IP versions."""

    IPV4 = 4
    IPV6 = 6


WIDTHS = {4: 4, 6: 16}
"""Bytes of an address, by family."""


def family_of(address: bytes) -> Family:
    """The family of a packed address (4 or 16 bytes)."""
    return Family.IPV4 if len(address) == 4 else Family.IPV6


class ServiceType(IntEnum):
    CLUSTER_IP = 1
    NODE_PORT = 2
    LOAD_BALANCER = 3


class TrafficPolicy(IntEnum):
    CLUSTER = 1
    LOCAL = 2


class IpMode(IntEnum):
    VIP = 1
    PROXY = 2


class Conditions(IntFlag):
    """An endpoint's conditions with nil resolved: ready and serving default to true, terminating to false (E1)."""

    READY = 1
    SERVING = 2
    TERMINATING = 4


class ServicePort(Struct, frozen=True, gc=False):
    name: str
    protocol: int
    port: int
    node_port: int = 0


class LoadBalancerIngress(Struct, frozen=True, gc=False):
    ip: bytes
    ip_mode: int = IpMode.VIP


class Service(Struct, frozen=True, gc=False):
    """A Service with a virtual address (never headless, never ExternalName)."""

    namespace: str
    name: str
    type: int
    cluster_ips: tuple[bytes, ...]  # API order: primary family first
    ports: tuple[ServicePort, ...]  # API order
    external_ips: tuple[bytes, ...] = ()  # sorted
    load_balancer_ingress: tuple[LoadBalancerIngress, ...] = ()  # sorted by ip, mode
    load_balancer_source_ranges: tuple[str, ...] = ()  # canonical text, sorted
    internal_traffic_policy: int = TrafficPolicy.CLUSTER
    external_traffic_policy: int = TrafficPolicy.CLUSTER
    session_affinity_seconds: int = 0  # 0: none
    health_check_node_port: int = 0  # 0: none
    created: int = 0  # Unix seconds; 0: unknown. Not part of the hash (`digest`), which takes the last field off

    @property
    def key(self) -> ObjectKey:
        return ObjectKey(Kind.SERVICE, self.namespace, self.name)


class EndpointPort(Struct, frozen=True, gc=False):
    name: str
    protocol: int
    port: int


class Endpoint(Struct, frozen=True, gc=False):
    """One endpoint address; `conditions` are `Conditions` bits."""

    address: bytes
    conditions: int = Conditions.READY | Conditions.SERVING
    node: str = ""  # "": unknown, never local (E10)
    zone: str = ""
    zone_hints: tuple[str, ...] = ()  # sorted
    node_hints: tuple[str, ...] = ()  # sorted


class EndpointSlice(Struct, frozen=True, gc=False):
    """An EndpointSlice of one address family; an address stands in it at most once."""

    namespace: str
    name: str
    service: str  # owning Service's name
    family: int
    ports: tuple[EndpointPort, ...]  # sorted by name, protocol, port
    endpoints: tuple[Endpoint, ...]  # sorted by address

    @property
    def key(self) -> ObjectKey:
        return ObjectKey(Kind.ENDPOINT_SLICE, self.namespace, self.name)


class Node(Struct, frozen=True, gc=False):
    """A node's facts that can change forwarding; heartbeats are not among them."""

    name: str
    uid: str = ""
    addresses: tuple[bytes, ...] = ()  # internal ones in API order, then external ones
    zone: str = ""
    pod_cidrs: tuple[str, ...] = ()
    deleting: bool = False
    to_be_deleted_by_autoscaler: bool = False

    @property
    def key(self) -> ObjectKey:
        return ObjectKey(Kind.NODE, "", self.name)


class ServiceCidr(Struct, frozen=True, gc=False):
    name: str
    cidrs: tuple[str, ...]  # canonical text, sorted

    @property
    def key(self) -> ObjectKey:
        return ObjectKey(Kind.SERVICE_CIDR, "", self.name)


Object = Service | EndpointSlice | Node | ServiceCidr


class Upsert(Struct, frozen=True, gc=False):
    """The object as it is now, whole."""

    object: Object

    @property
    def key(self) -> ObjectKey:
        return self.object.key


class Remove(Struct, frozen=True, gc=False):
    """The object is gone."""

    key: ObjectKey


class Patch(Struct, frozen=True, gc=False):
    """A change of endpoints inside an EndpointSlice whose header is unchanged; applies to `base_hash` only."""

    key: ObjectKey
    base_hash: int
    upserts: tuple[Endpoint, ...]  # sorted by address
    removes: tuple[bytes, ...]  # sorted
    new_hash: int


class Unsupported(Struct, frozen=True, gc=False):
    """An op of a variant this program does not know: counted and reported, never applied (S14)."""

    description: str = ""


Op = Upsert | Remove | Patch | Unsupported
