"""API objects to facts: what an object means for a Service proxy, in canonical form. Pure; both sources call it.

Follows kube-proxy 1.36 (pkg/proxy: serviceport.go, endpointslicecache.go, util); row ids in comments are those of
docs/behaviour.md. An unusable object raises `InvalidObject`, so that its last good state stays. If only parts are
unusable, the rest counts, and the problems are texts `field: reason`.
"""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Callable, Iterable, Iterator
from time import strptime
from typing import NamedTuple, TypeVar

from controlplane.errors import InvalidObject
from controlplane.facts import Fact
from controlplane.source import objects
from controlplane.source.translate_service import translate_service
from controlplane.source.usable import Invalid, Problems, choose
from deltaplane import model
from deltaplane.addresses import parse_address, parse_cidr
from deltaplane.copies import preferred
from deltaplane.model import Conditions, Family, Kind, ObjectKey, Protocol, family_of
from deltaplane.names import is_label, shown
from deltaplane.validation import endpoints_problem, header_problem, key_problem, problem, special

HEADLESS = "service.kubernetes.io/headless"
SERVICE_NAME = "kubernetes.io/service-name"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
ZONE = "topology.kubernetes.io/zone"
AUTOSCALER_TAINT = "ToBeDeletedByClusterAutoscaler"

_FAMILIES = {"IPv4": Family.IPV4, "IPv6": Family.IPV6}
_ADDRESS_ORDER = ("InternalIP", "ExternalIP")
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(?:Z|([+-])(\d\d):(\d\d))")
# Bits by (ready, serving, terminating); nil is ready, serving, not terminating (E1). A table: this is the hot path.
_CONDITIONS = {
    (ready, serving, terminating): (
        (Conditions.READY if ready is not False else 0)
        | (Conditions.SERVING if serving is not False else 0)
        | (Conditions.TERMINATING if terminating else 0)
    )
    for ready in (None, False, True)
    for serving in (None, False, True)
    for terminating in (None, False, True)
}

ApiObject = objects.Service | objects.EndpointSlice | objects.Node | objects.ServiceCidr
T = TypeVar("T")


class Translation(NamedTuple):
    """The fact of an object, and the problems of its unusable parts (each `field: reason`)."""

    fact: Fact
    problems: tuple[str, ...]


def translate(kind: Kind, thing: ApiObject, event_unix_nano: int = 0) -> Translation:
    """The fact of one object. Raises `InvalidObject` naming object, field and reason."""
    key = key_of(kind, thing.metadata)
    problems: Problems = []
    try:
        value = _TRANSLATORS[kind](thing, problems)
    except Invalid as error:
        raise InvalidObject(f"{key}: {error}") from error
    wrong = _problem(value) if value is not None else ""
    if wrong:
        raise InvalidObject(f"{key}: {wrong}")
    meta = thing.metadata
    trigger = _trigger(meta.annotations) if kind is Kind.ENDPOINT_SLICE else 0
    labels = meta.labels if kind is Kind.NODE else None
    fact = Fact(key, value, meta.resource_version, event_unix_nano, trigger, labels=labels)
    return Translation(fact, tuple(problems))


def _problem(value: model.Object) -> str:
    """What is wrong with the whole value. The unusable endpoints of a slice are already left out."""
    if isinstance(value, model.EndpointSlice):
        return key_problem(value.key) or header_problem(value)
    return problem(value)


def key_of(kind: Kind, metadata: objects.Metadata) -> ObjectKey:
    """The key of the object. Raises `InvalidObject` if it has no name."""
    namespace = "" if kind in CLUSTER_SCOPED else metadata.namespace
    key = ObjectKey(kind, namespace, metadata.name)
    if not metadata.name:
        raise InvalidObject(f"{key}: metadata.name: missing")
    if not namespace and kind not in CLUSTER_SCOPED:
        raise InvalidObject(f"{key}: metadata.namespace: missing")
    return key


def _translate_slice(thing: objects.EndpointSlice, problems: Problems) -> model.EndpointSlice | None:
    meta = thing.metadata
    labels = meta.labels or {}
    if HEADLESS in labels:  # A13
        return None
    family = _FAMILIES.get(thing.address_type)
    if family is None:  # E3: FQDN, and unknown types
        problems.append(f"addressType: {thing.address_type!r} cannot be forwarded to; use IPv4 or IPv6")
        return None
    service = labels.get(SERVICE_NAME)
    if not service:  # E4
        problems.append(f"metadata.labels[{SERVICE_NAME}]: missing, so it belongs to no Service")
        return None
    ports = sorted(set(_slice_ports(thing.ports or (), problems)), key=lambda p: (p.name, p.protocol, p.port))
    endpoints = _endpoints(thing.endpoints or (), family, problems)
    return model.EndpointSlice(meta.namespace, meta.name, service, family, tuple(ports), endpoints)


def _slice_ports(ports: Iterable[objects.EndpointPort], problems: Problems) -> Iterator[model.EndpointPort]:
    for index, port in enumerate(ports):
        at = f"ports[{index}]"
        if port.name is None:  # E6
            problems.append(f"{at}.name: missing; port skipped")
        elif not port.port or not 0 < port.port < 65536:  # E6: "all ports" is not supported
            problems.append(f"{at}.port: {port.port} is not 1..65535; port skipped")
        elif (port.protocol or "TCP") not in Protocol.__members__:
            problems.append(f"{at}.protocol: {port.protocol!r} is not TCP, UDP or SCTP; port skipped")
        elif port.name and not is_label(port.name):
            problems.append(f"{at}.name: {shown(port.name)} is not a DNS-1123 label; port skipped")
        else:
            yield model.EndpointPort(port.name, Protocol[port.protocol or "TCP"], port.port)


def _endpoints(things: Iterable[objects.Endpoint], family: int, problems: Problems) -> tuple[model.Endpoint, ...]:
    """The endpoints sorted by address; of several with the same address, the preferred one (E8)."""
    found: dict[bytes, model.Endpoint] = {}
    for index, thing in enumerate(things):
        try:
            endpoint = _endpoint(thing, family)
        except ValueError as error:
            problems.append(f"endpoints[{index}].addresses: {error}; endpoint skipped")
            continue
        wrong = endpoints_problem((endpoint,))
        if wrong:
            problems.append(f"endpoints[{index}]: {wrong.removeprefix('endpoints: ')}; endpoint skipped")
            continue
        found[endpoint.address] = preferred(found.get(endpoint.address, endpoint), endpoint)
    return tuple(found[address] for address in sorted(found))


def _endpoint(thing: objects.Endpoint, family: int) -> model.Endpoint:
    if not thing.addresses:
        raise ValueError("none")
    address = parse_address(thing.addresses[0])  # E5
    if family_of(address) != family:
        raise ValueError(f"{thing.addresses[0]!r} is not of addressType IPv{int(family)}")
    state, hints = thing.conditions, thing.hints
    return model.Endpoint(
        address,
        _CONDITIONS[state.ready, state.serving, state.terminating] if state else _CONDITIONS[None, None, None],
        thing.node_name or "",
        thing.zone or "",
        _names(hints.for_zones) if hints else (),
        _names(hints.for_nodes) if hints else (),
    )


def _names(things: list[objects.Named] | None) -> tuple[str, ...]:
    return tuple(sorted({thing.name for thing in things or ()}))


def _translate_node(thing: objects.Node, problems: Problems) -> model.Node:
    spec = thing.spec or objects.NodeSpec()
    meta = thing.metadata
    cidrs = spec.pod_cidrs or ([spec.pod_cidr] if spec.pod_cidr else [])
    return model.Node(
        name=meta.name,
        uid=meta.uid,
        addresses=_node_addresses((thing.status and thing.status.addresses) or (), problems),
        zone=(meta.labels or {}).get(ZONE, ""),
        pod_cidrs=tuple(choose("spec.podCIDRs", cidrs, parse_cidr, problems)),
        deleting=meta.deletion_timestamp is not None,
        to_be_deleted_by_autoscaler=any(taint.key == AUTOSCALER_TAINT for taint in spec.taints or ()),
    )


def _node_addresses(things: Iterable[objects.NodeAddress], problems: Problems) -> tuple[bytes, ...]:
    """The internal addresses in API order, then the external ones (GetNodeHostIPs of k8s.io/component-helpers)."""
    found: dict[bytes, None] = {}
    for wanted in _ADDRESS_ORDER:
        for index, thing in enumerate(things):
            if thing.type != wanted:
                continue
            try:
                address = parse_address(thing.address)
            except ValueError as error:
                problems.append(f"status.addresses[{index}].address: {error}; skipped")
                continue
            reason = special(address)
            if reason:
                problems.append(f"status.addresses[{index}].address: {thing.address} {reason}; skipped")
            else:
                found[address] = None
    return tuple(found)


def _translate_service_cidr(thing: objects.ServiceCidr, problems: Problems) -> model.ServiceCidr:
    """A ServiceCIDR that is being deleted counts until it is gone: its addresses may be in use (F6, KEP-1880)."""
    spec = thing.spec or objects.ServiceCidrSpec()
    cidrs = choose("spec.cidrs", spec.cidrs or (), parse_cidr, problems)
    return model.ServiceCidr(thing.metadata.name, tuple(sorted(cidrs)))


def _trigger(annotations: dict[str, str] | None) -> int:
    """The annotation's time in nanoseconds since the epoch.

    0 if it is absent, unreadable, or outside an int64 of nanoseconds, such as Go's zero time (year 1). It only serves
    to measure latency.
    """
    text = (annotations or {}).get(TRIGGER_TIME, "")
    match = _RFC3339.fullmatch(text)
    if not match:
        return 0
    seconds, fraction, sign, hours, minutes = match.groups()
    try:
        moment = timegm(strptime(seconds, "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return 0
    if sign:
        moment -= int(sign + "1") * (int(hours) * 3600 + int(minutes) * 60)
    nanoseconds = moment * 1_000_000_000 + int((fraction or "").ljust(9, "0"))
    return nanoseconds if 0 < nanoseconds < 1 << 63 else 0


CLUSTER_SCOPED = frozenset({Kind.NODE, Kind.SERVICE_CIDR})
_TRANSLATORS: dict[Kind, Callable[..., model.Object | None]] = {
    Kind.SERVICE: translate_service,
    Kind.ENDPOINT_SLICE: _translate_slice,
    Kind.NODE: _translate_node,
    Kind.SERVICE_CIDR: _translate_service_cidr,
}
TYPES: dict[Kind, type[ApiObject]] = {
    Kind.SERVICE: objects.Service,
    Kind.ENDPOINT_SLICE: objects.EndpointSlice,
    Kind.NODE: objects.Node,
    Kind.SERVICE_CIDR: objects.ServiceCidr,
}
