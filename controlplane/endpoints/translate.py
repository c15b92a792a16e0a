"""Services, Pods and Nodes of the API to what they mean for endpoints. Pure; called by `feeds` and `folder`.

Parts that cannot be used are left out and named (`field: reason`). Follows k8s.io/endpointslice 0.36: utils.go and
util/controller_utils.go.
"""

from __future__ import annotations

from calendar import timegm
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from ipaddress import ip_address

from controlplane.endpoints import objects
from controlplane.endpoints.quantity import milli
from controlplane.endpoints.values import NamedPort, Node, Pod, Service, ServicePort
from controlplane.source.translate import ZONE
from controlplane.source.usable import Problems
from deltaplane.addresses import parse_address
from deltaplane.validation import special

HINTS_ANNOTATIONS = ("service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode")
NOT_COUNTED = frozenset({"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"})
NONE = "None"
FAMILIES = ("IPv4", "IPv6")


def service(thing: objects.Service, problems: Problems) -> Service:
    """The Service."""
    meta, spec = thing.metadata, thing.spec or objects.ServiceSpec()
    annotations = meta.annotations or {}
    mode = next((annotations[name] for name in HINTS_ANNOTATIONS if name in annotations), "")
    return Service(
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        labels=meta.labels or {},
        selector=spec.selector or {},
        families=_families(spec),
        ports=tuple(_service_ports(spec.ports or (), problems)),
        external_name=spec.type == "ExternalName",
        headless=(spec.cluster_ip or next(iter(spec.cluster_ips or ()), "")) in {NONE, ""},
        publish_not_ready=bool(spec.publish_not_ready_addresses),
        distribution=spec.traffic_distribution or "",
        topology_mode=mode in {"Auto", "auto"},
        created=seconds(meta.creation_timestamp),
        deleting=meta.deletion_timestamp is not None,
    )


def _families(spec: objects.ServiceSpec) -> tuple[str, ...]:
    """Those of `ipFamilies`; without them those of its addresses; of a headless Service both."""
    given = tuple(family for family in spec.ip_families or () if family in FAMILIES)
    own = [one for one in spec.cluster_ips or [spec.cluster_ip or ""] if one and one != NONE]
    return given or tuple(dict.fromkeys(map(family_of, own))) or FAMILIES


def family_of(address: str) -> str:
    """IPv4 or IPv6, by the text of an address."""
    return "IPv6" if ":" in address else "IPv4"


def _service_ports(ports: Iterable[objects.ServicePort], problems: Problems) -> Iterator[ServicePort]:
    for index, port in enumerate(ports):
        target = port.target_port or port.port
        if target is None or (isinstance(target, int) and not 0 < target < 65536):
            problems.append(f"spec.ports[{index}].targetPort: {target} is not 1..65535; port skipped")
        else:
            yield ServicePort(port.name or "", port.protocol or "TCP", target, port.app_protocol)


def pod(thing: objects.Pod, problems: Problems) -> Pod:
    """The Pod."""
    meta, spec, status = thing.metadata, thing.spec or objects.PodSpec(), thing.status or objects.PodStatus()
    ready = next((one for one in status.conditions or () if one.type == "Ready"), objects.Condition())
    return Pod(
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        labels=meta.labels or {},
        node=spec.node_name or "",
        addresses=addresses(_ips(status), "status.podIPs", problems),
        ready=ready.status == "True",
        terminating=meta.deletion_timestamp is not None,
        terminal=status.phase in {"Succeeded", "Failed"},
        hostname=spec.hostname or "",
        subdomain=spec.subdomain or "",
        ports=named_ports(spec, problems),
        ready_since=seconds(ready.last_transition_time),
    )


def _ips(status: objects.PodStatus) -> list[str]:
    return [one.ip for one in status.pod_ips or ()] or ([status.pod_ip] if status.pod_ip else [])


def addresses(texts: Iterable[str], field: str, problems: Problems) -> tuple[str, ...]:
    """Canonical texts of those that traffic may be sent to: for any other the API server refuses the whole slice."""
    found: list[str] = []
    for index, text in enumerate(texts):
        try:
            packed = parse_address(text)
        except ValueError as error:
            problems.append(f"{field}[{index}]: {error}; skipped")
            continue
        if reason := special(packed):
            problems.append(f"{field}[{index}]: {text} {reason}; skipped")
        else:
            found.append(str(ip_address(packed)))
    return tuple(found)


def named_ports(spec: objects.PodSpec, problems: Problems) -> tuple[NamedPort, ...]:
    """The named ports of the containers, then those of sidecars (initContainers with restartPolicy Always)."""
    containers = [(f"containers[{index}]", one) for index, one in enumerate(spec.containers or ())]
    first = ((f"initContainers[{index}]", one) for index, one in enumerate(spec.init_containers or ()))
    containers += [(at, one) for at, one in first if one.restart_policy == "Always"]
    return tuple(port for at, one in containers for port in _named_ports(f"spec.{at}", one, problems))


def _named_ports(at: str, container: objects.Container, problems: Problems) -> Iterator[NamedPort]:
    for index, port in enumerate(container.ports or ()):
        number = port.container_port
        if not 0 < number < 65536:
            problems.append(f"{at}.ports[{index}].containerPort: {number} is not 1..65535; port skipped")
        elif port.name:
            yield NamedPort(port.name, port.protocol or "TCP", number)


def node(thing: objects.Node, problems: Problems) -> Node:
    """The Node."""
    labels, status = thing.metadata.labels or {}, thing.status or objects.NodeStatus()
    ready = next((one.status for one in status.conditions or () if one.type == "Ready"), "")
    try:
        cpu = milli((status.allocatable or {}).get("cpu", 0))
    except ValueError as error:
        problems.append(f"status.allocatable.cpu: {error}; taken as unknown")
        cpu = 0
    counted = ready == "True" and not NOT_COUNTED & labels.keys()
    return Node(thing.metadata.name, labels.get(ZONE, ""), cpu, counted)


def seconds(text: str | None) -> int:
    """Unix seconds of an RFC 3339 time; 0 if there is none, it is unreadable, or before 1970, as Go's zero time."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return 0
    return max(0, timegm(found.astimezone(UTC).timetuple())) if found.tzinfo else 0
