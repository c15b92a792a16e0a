"""From the model to the wire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deltaplane.model import Endpoint, EndpointSlice, Node, Object, Op, Patch, Remove, Service, ServiceCidr, Upsert


class _Strings:
    """The dictionary of one message; index 0 is the empty string."""

    def __init__(self) -> None:
        self.indexes: dict[str, int] = {"": 0}

    def add(self, endpoint: Endpoint) -> dict[str, Any]:
        index = self.index
        fields: dict[str, Any] = {"address": endpoint.address, "conditions": int(endpoint.conditions)}
        if endpoint.node:
            fields["node"] = index(endpoint.node)
        if endpoint.zone:
            fields["zone"] = index(endpoint.zone)
        if endpoint.zone_hints:
            fields["zone_hints"] = [index(name) for name in endpoint.zone_hints]
        if endpoint.node_hints:
            fields["node_hints"] = [index(name) for name in endpoint.node_hints]
        return fields

    def index(self, name: str) -> int:
        indexes = self.indexes
        return indexes.setdefault(name, len(indexes))


def _encode_service(service: Service, ops: Any) -> None:
    ops.add(
        service={
            "namespace": service.namespace,
            "name": service.name,
            "type": int(service.type),
            "cluster_ips": service.cluster_ips,
            "ports": [
                {"name": p.name, "protocol": int(p.protocol), "port": p.port, "node_port": p.node_port}
                for p in service.ports
            ],
            "external_ips": service.external_ips,
            "load_balancer_ingress": [{"ip": i.ip, "ip_mode": int(i.ip_mode)} for i in service.load_balancer_ingress],
            "load_balancer_source_ranges": service.load_balancer_source_ranges,
            "internal_traffic_policy": int(service.internal_traffic_policy),
            "external_traffic_policy": int(service.external_traffic_policy),
            "session_affinity_seconds": service.session_affinity_seconds,
            "health_check_node_port": service.health_check_node_port,
            "created": service.created,
        }
    )


def _encode_slice(slice_: EndpointSlice, ops: Any) -> None:
    strings = _Strings()
    endpoints = [strings.add(endpoint) for endpoint in slice_.endpoints]
    ops.add(
        endpoint_slice={
            "namespace": slice_.namespace,
            "name": slice_.name,
            "service": slice_.service,
            "family": int(slice_.family),
            "ports": [{"name": p.name, "protocol": int(p.protocol), "port": p.port} for p in slice_.ports],
            "strings": list(strings.indexes),
            "endpoints": endpoints,
        }
    )


def _encode_node(node: Node, ops: Any) -> None:
    ops.add(
        node={
            "name": node.name,
            "uid": node.uid,
            "addresses": node.addresses,
            "zone": node.zone,
            "pod_cidrs": node.pod_cidrs,
            "deleting": node.deleting,
            "to_be_deleted_by_autoscaler": node.to_be_deleted_by_autoscaler,
        }
    )


def _encode_service_cidr(cidr: ServiceCidr, ops: Any) -> None:
    ops.add(service_cidr={"name": cidr.name, "cidrs": cidr.cidrs})


def _encode_upsert(op: Upsert, ops: Any) -> None:
    _ENCODE_OBJECT[type(op.object)](op.object, ops)


def _encode_patch(op: Patch, ops: Any) -> None:
    strings = _Strings()
    upserts = [strings.add(endpoint) for endpoint in op.upserts]
    ops.add(
        endpoint_slice_patch={
            "namespace": op.key.namespace,
            "name": op.key.name,
            "base_hash": op.base_hash,
            "strings": list(strings.indexes) if len(strings.indexes) > 1 else (),
            "upserts": upserts,
            "removes": op.removes,
            "new_hash": op.new_hash,
        }
    )


def _encode_remove(op: Remove, ops: Any) -> None:
    ops.add(remove={"kind": int(op.key.kind), "namespace": op.key.namespace, "name": op.key.name})


_ENCODE_OBJECT: dict[type[Object], Callable[[Any, Any], None]] = {
    Service: _encode_service,
    EndpointSlice: _encode_slice,
    Node: _encode_node,
    ServiceCidr: _encode_service_cidr,
}
_ENCODE: dict[type[Op], Callable[[Any, Any], None]] = {
    Upsert: _encode_upsert,
    Patch: _encode_patch,
    Remove: _encode_remove,
}


def encode_op(op: Op, ops: Any) -> None:
    """Adds `op` to a repeated field of `deltaplane.v1.Op`. An `Unsupported` cannot be said and is a ValueError."""
    encode = _ENCODE.get(type(op))
    if encode is None:
        raise ValueError(f"op {op!r} has no wire form")
    encode(op, ops)
