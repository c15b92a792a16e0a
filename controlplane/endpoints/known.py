"""What the endpoints controllers know: Services, Pods, Nodes, and what they have written. Pure; one event loop's own.

Each change returns the Services whose endpoints may have to change. What a write returned and what a watch or a list
says later are told apart by resourceVersion, so an older word never replaces a newer one, and an echo costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from controlplane.endpoints.names import SLICE_MANAGER
from controlplane.endpoints.objects import Endpoints, EndpointSlice, ObjectMeta
from controlplane.endpoints.selection import Selection
from controlplane.endpoints.slicing import MANAGED_BY, SERVICE_NAME
from controlplane.endpoints.values import Name, Node, Pod, Service
from controlplane.store import number_of

Written = EndpointSlice | Endpoints


class Known:
    """`lenient`: a Pod's Node need not be known (a folder may have none). `manager`: whose slices are ours."""

    def __init__(self, *, lenient: bool = False, manager: str = SLICE_MANAGER) -> None:
        self.manager = manager
        self.services: dict[Name, Service] = {}
        self.pods: dict[Name, Pod] = {}
        self.nodes: dict[str, Node] = {}
        self.endpoints: dict[Name, Endpoints] = {}
        self._slices: dict[Name, EndpointSlice] = {}
        self._by_service: dict[Name, dict[Name, EndpointSlice]] = {}
        self._by_node: dict[str, dict[Name, Pod]] = {}
        self._by_topology: set[Name] = set()
        self._gone: dict[Name, str] = {}  # UIDs of slices that were deleted here and whose end was not heard of yet
        self._selection = Selection()
        self._lenient = lenient

    # ------------------------------------------------------------ what is asked

    def node(self, name: str) -> Node | None:
        """The Node; None: there is none of this name (desired.Nodes)."""
        return self.nodes.get(name) or (Node(name) if self._lenient else None)

    @property
    def cluster(self) -> Sequence[Node]:
        """All Nodes."""
        return list(self.nodes.values())

    def pods_of(self, service: Service) -> list[Pod]:
        """The Pods that the Service selects."""
        return self._selection.pods_of(service)

    def slices_of(self, service: Name) -> list[EndpointSlice]:
        """The controller's slices for the Service of this name."""
        return list(self._by_service.get(service, {}).values())

    def slice(self, name: Name) -> EndpointSlice | None:
        """The controller's slice of this name."""
        return self._slices.get(name)

    @property
    def everyone(self) -> set[Name]:
        """Every Service that is, or that something was made for."""
        return {*self.services, *self._by_service, *self.endpoints}

    # ------------------------------------------------------------ what changes

    def set_service(self, name: Name, service: Service | None) -> set[Name]:
        """None: it is gone."""
        old = self.services.get(name)
        if old == service:
            return set()
        if old is not None:
            del self.services[name]
            self._selection.remove_service(old)
            self._by_topology.discard(name)
        if service is not None:
            self.services[name] = service
            self._selection.add_service(service)
            if service.topology_mode:
                self._by_topology.add(name)
        return {name}

    def set_pod(self, name: Name, pod: Pod | None) -> set[Name]:
        """None: it is gone."""
        old = self.pods.get(name)
        if old == pod:
            return set()
        touched: set[Name] = set()
        if old is not None:
            touched |= self._selection.services_of(old)
            self._remove_pod(old)
        if pod is not None:
            self._add_pod(pod)
            touched |= self._selection.services_of(pod)
        return touched

    def _add_pod(self, pod: Pod) -> None:
        self.pods[pod.key] = pod
        self._selection.add_pod(pod)
        self._by_node.setdefault(pod.node, {})[pod.key] = pod

    def _remove_pod(self, pod: Pod) -> None:
        del self.pods[pod.key]
        self._selection.remove_pod(pod)
        some = self._by_node[pod.node]
        del some[pod.key]
        if not some:
            del self._by_node[pod.node]

    def set_node(self, name: str, node: Node | None) -> set[Name]:
        """None: it is gone."""
        old = self.nodes.get(name)
        if old == node:
            return set()
        if node is None:
            del self.nodes[name]
        else:
            self.nodes[name] = node
        touched = set(self._by_topology)
        if (old and old.zone) != (node and node.zone):  # it has come or gone, too
            for pod in self._by_node.get(name, {}).values():
                touched |= self._selection.services_of(pod)
        return touched

    def set_endpoints(self, name: Name, endpoints: Endpoints | None) -> set[Name]:
        """None: they are gone."""
        old = self.endpoints.get(name)
        if _stale(old, endpoints):
            return set()
        if endpoints is None:
            self.endpoints.pop(name, None)
        else:
            self.endpoints[name] = endpoints
        return set() if _same(old, endpoints) else {name}

    def set_slice(self, name: Name, one: EndpointSlice | None) -> set[Name]:
        """None: it is gone. One that another manages is none of ours."""
        old = self._slices.get(name)
        if one is None or (one.metadata.labels or {}).get(MANAGED_BY) != self.manager:
            self._gone.pop(name, None)
            return self._forget_slice(name)
        if _stale(old, one) or self._gone.get(name) == one.metadata.uid:
            return set()
        touched = set() if _same(old, one) else self._forget_slice(name) | {_service_of(one.metadata)}
        self._slices[name] = one
        self._by_service.setdefault(_service_of(one.metadata), {})[name] = one
        return touched

    def deleted(self, one: EndpointSlice) -> None:
        """This controller has deleted it: older words of it that are still to come do not count."""
        name = (one.metadata.namespace, one.metadata.name)
        self._gone[name] = one.metadata.uid
        self._forget_slice(name)

    def _forget_slice(self, name: Name) -> set[Name]:
        old = self._slices.pop(name, None)
        if old is None:
            return set()
        service = _service_of(old.metadata)
        some = self._by_service[service]
        del some[name]
        if not some:
            del self._by_service[service]
        return {service}

    def absent_slices(self, present: Iterable[Name], version: str, names: Iterable[Name] | None = None) -> list[Name]:
        """Slices that a list of this version lacks. One that was written after the list is not absent.

        `names`: those that the list would have; None: all.
        """
        listed = set(present)
        if names is None:
            self._gone = {name: uid for name, uid in self._gone.items() if name in listed}
        candidates = self._slices if names is None else names
        return [name for name in candidates if name not in listed and not _after(self._slices.get(name), version)]

    def absent_endpoints(self, present: Iterable[Name], version: str) -> list[Name]:
        """As `absent_slices`."""
        listed = set(present)
        return [name for name, one in self.endpoints.items() if name not in listed and not _after(one, version)]


def _service_of(meta: ObjectMeta) -> Name:
    return (meta.namespace, (meta.labels or {}).get(SERVICE_NAME, ""))


def _after(one: Written | None, version: str) -> bool:
    return one is not None and number_of(one.metadata.resource_version) > number_of(version)


def _stale(old: Written | None, new: Written | None) -> bool:
    """Whether what comes is not newer than what is known of the same object."""
    if old is None or new is None or old.metadata.uid != new.metadata.uid:
        return False
    return number_of(new.metadata.resource_version) <= number_of(old.metadata.resource_version)


def _same(old: Written | None, new: Written | None) -> bool:
    """Whether they say the same, whatever their versions."""
    if old is None or new is None or type(old) is not type(new):
        return old is new
    return old == replace(new, metadata=replace(new.metadata, resource_version=old.metadata.resource_version))
