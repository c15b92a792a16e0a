"""Objects and forwarding entries as messages for people: addresses, types and conditions are text. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from deltaplane.forwarding import Entry, Frontend, FrontendKind, ServiceForwarding, Target
from deltaplane.model import (
    Conditions,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    IpMode,
    Kind,
    Node,
    Object,
    ObjectKey,
    Service,
    ServicePort,
    ServiceType,
    TrafficPolicy,
    protocol_name,
)
from deltaplane.v1 import objects_pb2, views_pb2

_WIRE_KINDS = {kind: objects_pb2.Kind.ValueType(int(kind)) for kind in Kind}
_TYPES = {ServiceType.CLUSTER_IP: "ClusterIP", ServiceType.NODE_PORT: "NodePort"}
_KINDS = {
    FrontendKind.CLUSTER_IP: "ClusterIP",
    FrontendKind.NODE_PORT: "NodePort",
    FrontendKind.EXTERNAL_IP: "ExternalIP",
    FrontendKind.LOAD_BALANCER: "LoadBalancer",
}
_CONDITIONS = {Conditions.READY: "ready", Conditions.SERVING: "serving", Conditions.TERMINATING: "terminating"}


def key_message(key: ObjectKey) -> objects_pb2.ObjectKey:
    """The key on the wire."""
    return objects_pb2.ObjectKey(kind=_WIRE_KINDS[key.kind], namespace=key.namespace, name=key.name)


def key_of(message: objects_pb2.ObjectKey) -> ObjectKey:
    """The key that a message names. Raises ValueError, which says which field is wrong."""
    try:
        kind = Kind(message.kind)
    except ValueError:
        names = ", ".join(objects_pb2.Kind.keys()[1:])
        raise ValueError(f"key.kind: {message.kind} is none of {names}") from None
    scoped = kind in {Kind.SERVICE, Kind.ENDPOINT_SLICE}
    if not message.name or scoped != bool(message.namespace):
        needed = "a namespace and a name" if scoped else "a name and no namespace"
        raise ValueError(f"key: a {objects_pb2.Kind.Name(message.kind)} has {needed}")
    return ObjectKey(kind, message.namespace, message.name)


def place(address: bytes, port: int) -> str:
    """ADDRESS:PORT, with brackets where it is IPv6; * where there is no address."""
    text = str(ip_address(address)) if address else "*"
    return f"[{text}]:{port}" if len(address) == 16 else f"{text}:{port}"


def frontend_text(frontend: Frontend) -> str:
    """ADDRESS:PORT/PROTOCOL."""
    return f"{place(frontend.address, frontend.port)}/{protocol_name(frontend.protocol)}"


def conditions_text(conditions: int) -> str:
    """such as serving, terminating."""
    found = [name for bit, name in _CONDITIONS.items() if conditions & bit]
    return ", ".join(found) or "not ready"


def object_view(thing: Object) -> views_pb2.ObjectView:
    """An object, with its key and what it says."""
    view = views_pb2.ObjectView(key=key_message(thing.key))
    if isinstance(thing, Service):
        view.service.CopyFrom(_service(thing))
    elif isinstance(thing, EndpointSlice):
        view.endpoint_slice.CopyFrom(_slice(thing))
    elif isinstance(thing, Node):
        view.node.CopyFrom(node_view(thing))
    else:
        view.service_cidr.cidrs.extend(thing.cidrs)
    return view


def _service(service: Service) -> views_pb2.ServiceView:
    ingress = [each.ip for each in service.load_balancer_ingress if each.ip_mode != IpMode.PROXY]
    return views_pb2.ServiceView(
        type=_TYPES.get(ServiceType(service.type), "LoadBalancer"),
        cluster_ips=_texts(service.cluster_ips),
        ports=[_port(port) for port in service.ports],
        external_ips=_texts(service.external_ips),
        load_balancer_ips=_texts(ingress),
        load_balancer_source_ranges=service.load_balancer_source_ranges,
        internal_traffic_policy=_policy(service.internal_traffic_policy),
        external_traffic_policy=_policy(service.external_traffic_policy),
        session_affinity_seconds=service.session_affinity_seconds,
        health_check_node_port=service.health_check_node_port,
        created_unix=service.created,
    )


def _port(port: ServicePort | EndpointPort) -> views_pb2.ServicePortView:
    node_port = port.node_port if isinstance(port, ServicePort) else 0
    return views_pb2.ServicePortView(
        name=port.name, protocol=protocol_name(port.protocol), port=port.port, node_port=node_port
    )


def _policy(policy: int) -> str:
    return "Local" if policy == TrafficPolicy.LOCAL else "Cluster"


def _texts(addresses: Iterable[bytes]) -> list[str]:
    return [str(ip_address(address)) for address in addresses]


def _slice(piece: EndpointSlice) -> views_pb2.EndpointSliceView:
    return views_pb2.EndpointSliceView(
        service=piece.service,
        family=f"IPv{piece.family}",
        ports=[_port(port) for port in piece.ports],
        endpoints=[_endpoint(endpoint) for endpoint in piece.endpoints],
    )


def _endpoint(endpoint: Endpoint) -> views_pb2.EndpointView:
    return views_pb2.EndpointView(
        address=str(ip_address(endpoint.address)),
        ready=bool(endpoint.conditions & Conditions.READY),
        serving=bool(endpoint.conditions & Conditions.SERVING),
        terminating=bool(endpoint.conditions & Conditions.TERMINATING),
        node=endpoint.node,
        zone=endpoint.zone,
        zone_hints=endpoint.zone_hints,
        node_hints=endpoint.node_hints,
    )


def node_view(node: Node) -> views_pb2.NodeView:
    """A Node's facts."""
    return views_pb2.NodeView(
        addresses=_texts(node.addresses),
        zone=node.zone,
        pod_cidrs=node.pod_cidrs,
        deleting=node.deleting,
        to_be_deleted_by_autoscaler=node.to_be_deleted_by_autoscaler,
        uid=node.uid,
    )


def forwarding_view(service: ServiceForwarding, lost: Iterable[str] = ()) -> views_pb2.ForwardingView:
    """What a Service means on a node. `lost`: what it asks for in vain."""
    view = views_pb2.ForwardingView(
        service=key_message(service.key),
        frontends=[entry_view(entry) for entry in service.entries],
        hairpins=[f"{place(pin.address, pin.port)}/{protocol_name(pin.protocol)}" for pin in service.hairpins],
        lost=lost,
    )
    if service.health_check is not None:
        view.health_check_node_port = service.health_check.port
        view.health_check_local_ready = sum(number for _, number in service.health_check.local_ready)
    return view


def entry_view(entry: Entry) -> views_pb2.FrontendView:
    """One frontend of a Service on a node."""
    return views_pb2.FrontendView(
        frontend=frontend_text(entry.frontend),
        kind=_KINDS[entry.frontend.kind],
        port_name=entry.port_name,
        endpoints=targets_text(entry.targets),
        verdict=entry.verdict.name,
        masquerade=entry.masquerade.name,
        external_policy_local=entry.local_targets is not None,
        local_endpoints=targets_text(entry.local_targets or ()),
        external_verdict=entry.external_verdict.name if entry.local_targets is not None else "",
        affinity_seconds=entry.affinity_seconds,
        source_ranges=entry.source_ranges,
        internal_policy_local=entry.local_policy,
        family=f"IPv{entry.frontend.family}",
    )


def targets_text(targets: Iterable[Target]) -> list[str]:
    """ADDRESS:PORT of each."""
    return [place(target.address, target.port) for target in targets]
