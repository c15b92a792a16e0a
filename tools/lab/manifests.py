"""Kubernetes objects as plain dicts, and files of them. For the manifests source and for the API server alike.

Called by tests, demo and benchmark. The functions fill in what every object needs; whatever else is wanted goes into
`spec`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tools.lab.fabric import Node, Pod

Object = dict[str, Any]


def port(number: int, target: int | None = None, name: str = "", protocol: str = "TCP", node_port: int = 0) -> Object:
    """One port of a Service."""
    given: Object = {"port": number, "targetPort": target or number, "protocol": protocol}
    return given | ({"name": name} if name else {}) | ({"nodePort": node_port} if node_port else {})


def service(
    name: str,
    ports: Iterable[Object],
    cluster_ips: Iterable[str] = (),
    *,
    namespace: str = "default",
    kind: str = "ClusterIP",
    labels: Mapping[str, str] | None = None,
    **spec: Any,
) -> Object:
    """A Service without selector. No `cluster_ips`: the API server allocates (a manifest has to say)."""
    addresses = list(cluster_ips)
    body: Object = {"type": kind, "ports": list(ports)} | spec
    if addresses:
        families = ["IPv6" if ":" in address else "IPv4" for address in addresses]
        policy = "RequireDualStack" if len(addresses) > 1 else "SingleStack"
        body |= {"clusterIP": addresses[0], "clusterIPs": addresses, "ipFamilies": families, "ipFamilyPolicy": policy}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels or {})},
        "spec": body,
    }


def endpoint(
    address: str,
    node: str | None = None,
    *,
    ready: bool | None = True,
    serving: bool | None = None,
    terminating: bool | None = None,
) -> Object:
    """One endpoint of a slice; conditions that are None are left out."""
    conditions = {"ready": ready, "serving": serving, "terminating": terminating}
    known = {name: value for name, value in conditions.items() if value is not None}
    return {"addresses": [address], "conditions": known} | ({"nodeName": node} if node else {})


def pod_endpoint(pod: Pod, family: int = 4, *, ready: bool | None = True) -> Object:
    """The pod as an endpoint of a slice of that family."""
    return endpoint(pod.address(family), pod.node, ready=ready)


def slice_port(number: int, name: str = "", protocol: str = "TCP") -> Object:
    """One port of an EndpointSlice."""
    return {"name": name, "port": number, "protocol": protocol}


def endpoint_slice(
    service_name: str,
    endpoints: Iterable[Object],
    ports: Iterable[Object],
    *,
    family: int = 4,
    namespace: str = "default",
    name: str = "",
) -> Object:
    """A slice of the Service; its name defaults to `<service>-v4` or `-v6`."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name or f"{service_name}-v{family}",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": service_name},
        },
        "addressType": f"IPv{family}",
        "endpoints": list(endpoints),
        "ports": list(ports),
    }


def slices(
    service_name: str, pods: Iterable[Pod], ports: Iterable[Object], *, unready: Iterable[Pod] = (), **more: Any
) -> list[Object]:
    """One slice per family with these pods, those of `unready` not ready."""
    members, down, open_ports = list(pods), set(unready), list(ports)
    return [
        endpoint_slice(
            service_name,
            [pod_endpoint(pod, family, ready=pod not in down) for pod in members],
            open_ports,
            family=family,
            **more,
        )
        for family in (4, 6)
    ]


def node_object(node: Node) -> Object:
    """The Node as its kubelet would register it."""
    addresses = [{"type": "InternalIP", "address": node.address(family)} for family in (4, 6)]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name, "labels": {"topology.kubernetes.io/zone": node.zone}},
        "spec": {"podCIDR": node.pod_cidrs[0], "podCIDRs": list(node.pod_cidrs)},
        "status": {"addresses": [*addresses, {"type": "Hostname", "address": node.name}]},
    }


def write(path: Path, *documents: Object) -> Path:
    """One YAML file of these documents, put in place at once: a reader never sees half of it."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(yaml.safe_dump_all(documents, sort_keys=False))
    return beside.replace(path)
