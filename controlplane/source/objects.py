"""The fields of the Kubernetes API that a Service proxy needs, as typed structs for msgspec; the rest is skipped.

`source.kubernetes` and `source.manifests` decode into them; `translate` makes values of `deltaplane.model` from them.
Optional API fields may be absent or null. Field meanings: k8s.io/api core/v1, discovery/v1 and networking/v1 types.go.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from msgspec import Raw, Struct, field

T = TypeVar("T")


class Metadata(Struct, gc=False, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class ServicePort(Struct, gc=False, rename="camel"):
    port: int | None = None
    name: str | None = None
    protocol: str | None = None
    node_port: int | None = None


class ClientIpConfig(Struct, gc=False, rename="camel"):
    timeout_seconds: int | None = None


class SessionAffinityConfig(Struct, gc=False, rename="camel"):
    client_ip: ClientIpConfig | None = field(default=None, name="clientIP")


class ServiceSpec(Struct, gc=False, rename="camel"):
    type: str | None = None
    cluster_ip: str | None = field(default=None, name="clusterIP")
    cluster_ips: list[str] | None = field(default=None, name="clusterIPs")
    ports: list[ServicePort] | None = None
    external_ips: list[str] | None = field(default=None, name="externalIPs")
    load_balancer_source_ranges: list[str] | None = None
    session_affinity: str | None = None
    session_affinity_config: SessionAffinityConfig | None = None
    internal_traffic_policy: str | None = None
    external_traffic_policy: str | None = None
    health_check_node_port: int | None = None


class LoadBalancerIngress(Struct, gc=False, rename="camel"):
    ip: str | None = None
    ip_mode: str | None = None


class LoadBalancerStatus(Struct, gc=False, rename="camel"):
    ingress: list[LoadBalancerIngress] | None = None


class ServiceStatus(Struct, gc=False, rename="camel"):
    load_balancer: LoadBalancerStatus | None = None


class Service(Struct, gc=False, rename="camel"):
    metadata: Metadata = field(default_factory=Metadata)
    spec: ServiceSpec | None = None
    status: ServiceStatus | None = None


class EndpointConditions(Struct, gc=False, rename="camel"):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Named(Struct, gc=False, rename="camel"):
    name: str = ""


class EndpointHints(Struct, gc=False, rename="camel"):
    for_zones: list[Named] | None = None
    for_nodes: list[Named] | None = None


class Endpoint(Struct, gc=False, rename="camel"):
    addresses: list[str] | None = None
    conditions: EndpointConditions | None = None
    node_name: str | None = None
    zone: str | None = None
    hints: EndpointHints | None = None


class EndpointPort(Struct, gc=False, rename="camel"):
    name: str | None = None
    protocol: str | None = None
    port: int | None = None


class EndpointSlice(Struct, gc=False, rename="camel"):
    metadata: Metadata = field(default_factory=Metadata)
    address_type: str = ""
    endpoints: list[Endpoint] | None = None
    ports: list[EndpointPort] | None = None


class Taint(Struct, gc=False, rename="camel"):
    key: str = ""


class NodeSpec(Struct, gc=False, rename="camel"):
    pod_cidr: str | None = field(default=None, name="podCIDR")
    pod_cidrs: list[str] | None = field(default=None, name="podCIDRs")
    taints: list[Taint] | None = None


class NodeAddress(Struct, gc=False, rename="camel"):
    type: str = ""
    address: str = ""


class NodeStatus(Struct, gc=False, rename="camel"):
    addresses: list[NodeAddress] | None = None


class Node(Struct, gc=False, rename="camel"):
    metadata: Metadata = field(default_factory=Metadata)
    spec: NodeSpec | None = None
    status: NodeStatus | None = None


class ServiceCidrSpec(Struct, gc=False, rename="camel"):
    cidrs: list[str] | None = None


class ServiceCidr(Struct, gc=False, rename="camel"):
    metadata: Metadata = field(default_factory=Metadata)
    spec: ServiceCidrSpec | None = None


class Header(Struct, gc=False, rename="camel"):
    """The kind and name of any object, for objects whose other fields cannot be decoded."""

    metadata: Metadata = field(default_factory=Metadata)
    api_version: str | None = None
    kind: str | None = None


class ListMetadata(Struct, gc=False, rename="camel"):
    resource_version: str = ""
    continue_: str | None = field(default=None, name="continue")


class Page(Struct, Generic[T], rename="camel"):
    """One page of a list response."""

    metadata: ListMetadata = field(default_factory=ListMetadata)
    items: list[T] | None = None


class WatchEvent(Struct, Generic[T], gc=False):
    """One line of a watch: ADDED, MODIFIED, DELETED, BOOKMARK or ERROR (its object is then a `Status`)."""

    type: str
    object: T


class StatusCause(Struct, gc=False, rename="camel"):
    reason: str = ""


class StatusDetails(Struct, gc=False, rename="camel"):
    retry_after_seconds: int | None = None
    causes: list[StatusCause] | None = None


class Status(Struct, gc=False, rename="camel"):
    """The API server's answer to a refused request (meta/v1 Status)."""

    code: int = 0
    reason: str | None = None
    message: str | None = None
    details: StatusDetails | None = None


RawPage = Page[Raw]
RawEvent = WatchEvent[Raw]
