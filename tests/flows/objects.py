"""Kubernetes objects for the scenarios that are made from tables, as a YAML file would say them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Object = dict[str, Any]


def service(name: str, cluster_ip: str, *ports: Object, vip: str = "", **spec: Any) -> Object:
    """A Service in the namespace default; `vip` is its load balancer's address."""
    made: Object = {
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"clusterIP": cluster_ip, "ports": list(ports) or [port(80)], **spec},
    }
    if vip:
        made["status"] = {"loadBalancer": {"ingress": [{"ip": vip}]}}
    return made


def port(number: int, name: str = "", protocol: str = "TCP", node_port: int = 0) -> Object:
    made: Object = {"port": number, "protocol": protocol}
    return made | ({"name": name} if name else {}) | ({"nodePort": node_port} if node_port else {})


def endpoint_slice(owner: str, endpoints: Iterable[Object], number: int = 80, name: str = "") -> Object:
    """The Service's slice of one unnamed TCP port."""
    return {
        "kind": "EndpointSlice",
        "metadata": {"name": name or f"{owner}-1", "labels": {"kubernetes.io/service-name": owner}},
        "addressType": "IPv4",
        "ports": [{"name": "", "protocol": "TCP", "port": number}],
        "endpoints": list(endpoints),
    }


def endpoint(address: str, node: str = "", **conditions: bool) -> Object:
    made: Object = {"addresses": [address]}
    return made | ({"nodeName": node} if node else {}) | ({"conditions": conditions} if conditions else {})
