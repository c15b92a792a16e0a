"""The fields of the Kubernetes API that the endpoints controllers read and write, as typed structs for msgspec.

What is only read (Service, Pod, Node, and Deployment of a folder) becomes values of `values` by `translate`. What is
also written (EndpointSlice, Endpoints) keeps the API's form, with every field of its metadata that a client may set.
Field meanings: k8s.io/api core/v1, apps/v1 and discovery/v1 types.go.
"""

from __future__ import annotations

from msgspec import Struct, field

from controlplane.source.objects import Metadata

Labels = dict[str, str]


class ServicePort(Struct, gc=False, rename="camel"):
    port: int | None = None
    name: str | None = None
    protocol: str | None = None
    target_port: int | str | None = None
    app_protocol: str | None = None


class ServiceSpec(Struct, gc=False, rename="camel"):
    type: str | None = None
    cluster_ip: str | None = field(default=None, name="clusterIP")
    cluster_ips: list[str] | None = field(default=None, name="clusterIPs")
    selector: Labels | None = None
    ports: list[ServicePort] | None = None
    ip_families: list[str] | None = None
    publish_not_ready_addresses: bool | None = None
    traffic_distribution: str | None = None


class Service(Struct, gc=False, rename="camel"):
    metadata: Metadata = field(default_factory=Metadata)
    spec: ServiceSpec | None = None


class ContainerPort(Struct, gc=False, rename="camel"):
    container_port: int = 0
    name: str | None = None
    protocol: str | None = None


class Container(Struct, gc=False, rename="camel"):
    ports: list[ContainerPort] | None = None
    restart_policy: str | None = None


class PodSpec(Struct, gc=False, rename="camel"):
    node_name: str | None = None
    hostname: str | None = None
    subdomain: str | None = None
    containers: list[Container] | None = None
    init_containers: list[Container] | None = None


class PodIp(Struct, gc=False, rename="camel"):
    ip: str = ""


class Condition(Struct, gc=False, rename="camel"):
    type: str = ""
    status: str = ""
    last_transition_time: str | None = None


class PodStatus(Struct, gc=False, rename="camel"):
    phase: str | None = None
    pod_ip: str | None = field(default=None, name="podIP")
    pod_ips: list[PodIp] | None = field(default=None, name="podIPs")
    conditions: list[Condition] | None = None


class Pod(Struct, gc=False, rename="camel"):
    metadata: Metadata = field(default_factory=Metadata)
    spec: PodSpec | None = None
    status: PodStatus | None = None


class PodTemplate(Struct, gc=False, rename="camel"):
    metadata: Metadata = field(default_factory=Metadata)
    spec: PodSpec | None = None


class DeploymentSpec(Struct, gc=False, rename="camel"):
    replicas: int | None = None
    template: PodTemplate | None = None


class Deployment(Struct, gc=False, rename="camel"):
    metadata: Metadata = field(default_factory=Metadata)
    spec: DeploymentSpec | None = None


class NodeStatus(Struct, gc=False, rename="camel"):
    allocatable: dict[str, int | float | str] | None = None
    conditions: list[Condition] | None = None


class Node(Struct, gc=False, rename="camel"):
    metadata: Metadata = field(default_factory=Metadata)
    status: NodeStatus | None = None


# ------------------------------------------------------------ what is written


class OwnerReference(Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class ObjectMeta(Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """Everything that a PUT would otherwise remove."""

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    deletion_timestamp: str | None = None
    labels: Labels | None = None
    annotations: Labels | None = None
    owner_references: tuple[OwnerReference, ...] | None = None
    finalizers: tuple[str, ...] | None = None


class ObjectReference(Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""


class Conditions(Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class ForName(Struct, frozen=True, gc=False, rename="camel"):
    name: str = ""


class Hints(Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    for_zones: tuple[ForName, ...] | None = None
    for_nodes: tuple[ForName, ...] | None = None


class Endpoint(Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """One Pod's addresses of one family, in order of their text."""

    addresses: tuple[str, ...] = ()
    conditions: Conditions | None = None
    hostname: str | None = None
    target_ref: ObjectReference | None = None
    node_name: str | None = None
    zone: str | None = None
    hints: Hints | None = None


class EndpointPort(Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    name: str | None = None
    protocol: str | None = None
    port: int | None = None
    app_protocol: str | None = None


class EndpointSlice(Struct, frozen=True, gc=False, rename="camel"):
    metadata: ObjectMeta = ObjectMeta()
    address_type: str = ""
    endpoints: tuple[Endpoint, ...] | None = None
    ports: tuple[EndpointPort, ...] | None = None
    api_version: str = "discovery.k8s.io/v1"
    kind: str = "EndpointSlice"


class EndpointAddress(Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    ip: str = ""
    hostname: str | None = None
    node_name: str | None = None
    target_ref: ObjectReference | None = None


class Subset(Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    addresses: tuple[EndpointAddress, ...] | None = None
    not_ready_addresses: tuple[EndpointAddress, ...] | None = None
    ports: tuple[EndpointPort, ...] | None = None


class Endpoints(Struct, frozen=True, gc=False, rename="camel"):
    metadata: ObjectMeta = ObjectMeta()
    subsets: tuple[Subset, ...] | None = None
    api_version: str = "v1"
    kind: str = "Endpoints"
