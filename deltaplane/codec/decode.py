"""From the wire to the model, checking what later stages rely on, so that a malformed message is refused whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from sys import intern
from typing import Any

from deltaplane.model import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Family,
    Kind,
    LoadBalancerIngress,
    Node,
    ObjectKey,
    Op,
    Patch,
    Remove,
    Service,
    ServiceCidr,
    ServicePort,
    Unsupported,
    Upsert,
)
from deltaplane.names import shown_address
from deltaplane.v1 import objects_pb2 as pb

_MAX_SHARED = 4096  # distinct tuples remembered
_ADDRESS_TAG = 0x0A  # Endpoint.address: field 1, length-delimited
_LENGTHS = {int(Family.IPV4): 4, int(Family.IPV6): 16}
_KINDS = {int(kind): kind for kind in Kind}


class MalformedError(ValueError):
    """A message that breaks the contract; nothing of it may be used (S13). The text names the object and the field."""


@lru_cache(maxsize=_MAX_SHARED)
def _share(value: Any) -> Any:
    """The one object that stands for all values equal to this one."""
    return value


def _check_ports(owner: str, ports: Iterable[ServicePort | EndpointPort]) -> None:
    for port in ports:
        if not 0 < port.port < 65536:
            raise MalformedError(f"{owner}: port {port.port} is not in 1..65535")


def _check_addresses(owner: str, field: str, addresses: Iterable[bytes]) -> None:
    for address in addresses:
        if len(address) not in (4, 16):
            raise MalformedError(f"{owner}: {field} has an address of {len(address)} bytes, not 4 or 16")


def _decode_service(message: pb.Service) -> Upsert:
    owner = f"Service {message.namespace}/{message.name}"
    service = Service(
        intern(message.namespace),
        intern(message.name),  # its slices name it too
        message.type,
        tuple(message.cluster_ips),
        tuple([ServicePort(intern(p.name), p.protocol, p.port, p.node_port) for p in message.ports]),
        tuple(message.external_ips),
        tuple([LoadBalancerIngress(i.ip, i.ip_mode) for i in message.load_balancer_ingress]),
        tuple(message.load_balancer_source_ranges),
        message.internal_traffic_policy,
        message.external_traffic_policy,
        message.session_affinity_seconds,
        message.health_check_node_port,
        message.created,
    )
    _check_name(owner, service.namespace, service.name)
    _check_ports(owner, service.ports)
    if any(port.node_port > 65535 for port in service.ports) or service.health_check_node_port > 65535:
        raise MalformedError(f"{owner}: a node port is above 65535")
    _check_addresses(owner, "cluster_ips", service.cluster_ips)
    if service.external_ips or service.load_balancer_ingress:
        _check_addresses(owner, "external_ips", service.external_ips)
        _check_addresses(owner, "load_balancer_ingress", [ingress.ip for ingress in service.load_balancer_ingress])
    return Upsert(service)


def _check_name(owner: str, *names: str) -> None:
    if not all(names):
        raise MalformedError(f"{owner}: a name is empty")


def _decode_slice(message: pb.EndpointSlice) -> Upsert:
    owner = f"EndpointSlice {message.namespace}/{message.name}"
    ports = _share(tuple([EndpointPort(intern(p.name), p.protocol, p.port) for p in message.ports]))
    length = _LENGTHS.get(message.family)
    if length is None:
        raise MalformedError(f"{owner}: address family {message.family} is unknown")
    _check_name(owner, message.namespace, message.name)
    _check_ports(owner, ports)
    endpoints = _decode_endpoints(owner, message.endpoints, message.strings, length)
    namespace, service = intern(message.namespace), intern(message.service)
    return Upsert(EndpointSlice(namespace, message.name, service, message.family, ports, endpoints))


def _decode_strings(owner: str, strings: Sequence[str]) -> list[str]:
    names = list(map(intern, strings)) or [""]
    if names[0]:
        raise MalformedError(f"{owner}: strings[0] is not empty")
    return names


def _decode_endpoints(
    owner: str, messages: Iterable[pb.Endpoint], strings: Sequence[str], length: int
) -> tuple[Endpoint, ...]:
    """Endpoints sorted by address, each once; an index outside `strings` or a wrong length is refused.

    This loop runs 100,000 times in a cold load, and reading six fields one by one is most of it. Everything but the
    address repeats (indexes start at 0 in every slice), so the bytes behind it are decoded once per distinct value. An
    address is the lowest field number and comes first; were it ever not, the message would be refused, not misread.
    """
    prefix = bytes((_ADDRESS_TAG, length))
    names = _decode_strings(owner, strings)
    hints: dict[tuple[int, ...], tuple[str, ...]] = {(): ()}
    endpoints: list[Endpoint] = []
    previous = b""
    try:
        for message in messages:
            raw = message.SerializeToString()
            end = 2 + length
            if raw[:2] != prefix:
                raise MalformedError(f"{owner}: address {shown_address(message.address)} is not of {length} bytes")
            address = raw[2:end]
            if address <= previous:
                raise MalformedError(f"{owner}: address {shown_address(address)} is repeated or out of order")
            previous = address
            conditions, node, zone, zones, nodes = _decode_rest(raw[end:])
            if not zones and not nodes:
                endpoints.append(Endpoint(address, conditions, names[node], names[zone]))
                continue
            if zones not in hints:
                hints[zones] = _share(tuple([names[i] for i in zones]))
            if nodes not in hints:
                hints[nodes] = _share(tuple([names[i] for i in nodes]))
            endpoints.append(Endpoint(address, conditions, names[node], names[zone], hints[zones], hints[nodes]))
    except IndexError as error:
        raise MalformedError(f"{owner}: an endpoint's index is outside its {len(names)} strings") from error
    return tuple(endpoints)


@lru_cache(maxsize=_MAX_SHARED)
def _decode_rest(raw: bytes) -> tuple[int, int, int, tuple[int, ...], tuple[int, ...]]:
    """What follows the address of an endpoint: conditions and indexes."""
    message = pb.Endpoint.FromString(raw)
    zones, nodes = tuple(message.zone_hints), tuple(message.node_hints)
    return message.conditions, message.node, message.zone, zones, nodes


def _decode_patch(message: pb.EndpointSlicePatch) -> Patch:
    owner = f"patch of EndpointSlice {message.namespace}/{message.name}"
    _check_name(owner, message.namespace, message.name)
    removes = tuple(message.removes)
    _check_addresses(owner, "removes", removes)
    length = len(message.upserts[0].address) if message.upserts else 4
    _check_addresses(owner, "upserts", [b"0" * length])
    upserts = _decode_endpoints(owner, message.upserts, message.strings, length)
    addresses = {endpoint.address for endpoint in upserts}
    if len(addresses.union(removes)) != len(upserts) + len(removes):
        raise MalformedError(f"{owner}: an address stands in it twice")
    key = ObjectKey(Kind.ENDPOINT_SLICE, intern(message.namespace), message.name)
    return Patch(key, message.base_hash, upserts, removes, message.new_hash)


def _decode_node(message: pb.Node) -> Upsert:
    owner = f"Node {message.name}"
    _check_name(owner, message.name)
    addresses = tuple(message.addresses)
    _check_addresses(owner, "addresses", addresses)
    zone, deleting, leaving = intern(message.zone), message.deleting, message.to_be_deleted_by_autoscaler
    return Upsert(Node(intern(message.name), message.uid, addresses, zone, tuple(message.pod_cidrs), deleting, leaving))


def _decode_service_cidr(message: pb.ServiceCidr) -> Upsert:
    _check_name("ServiceCIDR", message.name)
    return Upsert(ServiceCidr(message.name, tuple(message.cidrs)))


def _decode_remove(message: pb.ObjectKey) -> Op:
    kind = _KINDS.get(message.kind)
    if kind is None:
        return Unsupported(f"remove of kind {message.kind}")
    _check_name(f"remove of kind {kind.name}", message.name)
    return Remove(ObjectKey(kind, intern(message.namespace), message.name))


_DECODE: dict[str, Callable[[Any], Op]] = {
    "service": _decode_service,
    "endpoint_slice": _decode_slice,
    "endpoint_slice_patch": _decode_patch,
    "node": _decode_node,
    "service_cidr": _decode_service_cidr,
    "remove": _decode_remove,
}


def decode_op(message: pb.Op) -> Op:
    """The op `message` says; `Unsupported` where this program does not know the variant (S14).

    Raises `MalformedError` where the message breaks the contract.
    """
    variant = message.WhichOneof("op")
    decode = _DECODE.get(variant or "")
    if decode is None:
        return Unsupported(variant or "unknown variant")
    return decode(getattr(message, str(variant)))


def decode_ops(messages: Iterable[pb.Op]) -> list[Op]:
    """All ops of one message; raises `MalformedError` for any bad one, or where two speak of one key (S13)."""
    ops = [decode_op(message) for message in messages]
    seen: set[ObjectKey] = set()
    for op in ops:
        if not isinstance(op, Unsupported):
            if op.key in seen:
                raise MalformedError(f"{op.key} stands twice in one message")
            seen.add(op.key)
    return ops
