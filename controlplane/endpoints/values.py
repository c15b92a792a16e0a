"""What Services, Pods and Nodes mean for endpoints, as frozen values compared by content.

A value has nothing that does not matter for endpoints, so an equal value means that nothing is to be done: a kubelet's
heartbeat, an annotation or a container's restart costs one comparison.
"""

from __future__ import annotations

from msgspec import Struct

Name = tuple[str, str]  # namespace, name

PREFER_ZONE = frozenset({"PreferClose", "PreferSameZone", "PreferSameNode"})
PREFER_NODE = "PreferSameNode"


class ServicePort(Struct, frozen=True, gc=False):
    """`target`: a port's number, or its name in the Pods' containers. `app_protocol`: None if it is not given."""

    name: str
    protocol: str
    target: int | str
    app_protocol: str | None = None


class Service(Struct, frozen=True, gc=False):
    """`families`: IPv4, IPv6, in the Service's order. `created`: Unix seconds. Without selector it is nobody's."""

    namespace: str
    name: str
    uid: str
    labels: dict[str, str]
    selector: dict[str, str]
    families: tuple[str, ...]
    ports: tuple[ServicePort, ...]
    external_name: bool = False
    headless: bool = False
    publish_not_ready: bool = False
    distribution: str = ""
    topology_mode: bool = False  # by annotation: zones get a share of the endpoints; it excludes `distribution`
    created: int = 0
    deleting: bool = False

    @property
    def key(self) -> Name:
        return (self.namespace, self.name)

    @property
    def managed(self) -> bool:
        """Whether its endpoints are a controller's to make."""
        return bool(self.selector) and not self.external_name


class NamedPort(Struct, frozen=True, gc=False):
    name: str
    protocol: str
    port: int


class Pod(Struct, frozen=True, gc=False):
    """`addresses` are canonical texts. `ready_since`: Unix seconds of the last transition of Ready; 0: unknown."""

    namespace: str
    name: str
    uid: str
    labels: dict[str, str]
    node: str = ""
    addresses: tuple[str, ...] = ()
    ready: bool = False
    terminating: bool = False
    terminal: bool = False  # phase Succeeded or Failed
    hostname: str = ""
    subdomain: str = ""
    ports: tuple[NamedPort, ...] = ()  # in the order of the containers, those of sidecars last
    ready_since: int = 0

    @property
    def key(self) -> Name:
        return (self.namespace, self.name)


class Node(Struct, frozen=True, gc=False):
    """`milli_cpu`: allocatable, 0 unless known. `counted`: ready, and no control-plane node."""

    name: str
    zone: str = ""
    milli_cpu: int = 0
    counted: bool = False
