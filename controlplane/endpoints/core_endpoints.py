"""The Endpoints (v1) of a Service, for readers older than EndpointSlices. Pure.

Follows kube-controller-manager 1.36: pkg/controller/endpoint and pkg/api/v1/endpoints (RepackSubsets), in one order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from math import ceil

from msgspec.structs import replace

from controlplane.endpoints.desired import Ports, endpoint_ports, hostname, in_order, reference
from controlplane.endpoints.objects import EndpointAddress, EndpointPort, Endpoints, ObjectMeta, Subset
from controlplane.endpoints.slicing import HEADLESS
from controlplane.endpoints.translate import family_of
from controlplane.endpoints.values import Pod, Service

MOST = 1000  # addresses; each port group's count
MANAGED_BY = "endpoints.kubernetes.io/managed-by"
MANAGER = "endpoints-controller.deltaplane.dev"
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"

Addresses = tuple[EndpointAddress, ...]


def desired(service: Service, pods: Iterable[Pod], before: Endpoints | None) -> Endpoints | None:
    """The Endpoints to write; None: `before` says it already."""
    subsets, cut = truncated(subsets_of(service, pods))
    meta = before.metadata if before else ObjectMeta(name=service.name, namespace=service.namespace)
    annotations = dict(meta.annotations or {})
    annotations.pop(OVER_CAPACITY, None)
    if cut:
        annotations[OVER_CAPACITY] = "truncated"
    labels = {key: value for key, value in service.labels.items() if key != HEADLESS}
    labels |= {MANAGED_BY: MANAGER, **({HEADLESS: ""} if service.headless else {})}
    after = Endpoints(replace(meta, labels=labels, annotations=annotations), subsets)
    return None if before is not None and _same(before, after) else after


def _same(before: Endpoints, after: Endpoints) -> bool:
    old, new = before.metadata, after.metadata
    same = old.labels == new.labels and (old.annotations or {}) == new.annotations
    return same and in_one_order(before.subsets or ()) == after.subsets


def subsets_of(service: Service, pods: Iterable[Pod]) -> tuple[Subset, ...]:
    """The addresses, grouped so that those with the same ports are one subset."""
    members: dict[EndpointPort | None, dict[EndpointAddress, bool]] = defaultdict(dict)
    for pod in pods:
        address = _address(service, pod)
        if address is None:
            continue
        ready = service.publish_not_ready or pod.ready
        for port in _ports(service, pod):
            members[port][address] = ready
    return _grouped(members)


def _grouped(members: dict[EndpointPort | None, dict[EndpointAddress, bool]]) -> tuple[Subset, ...]:
    groups: dict[frozenset[tuple[EndpointAddress, bool]], list[EndpointPort]] = defaultdict(list)
    for port, addresses in members.items():
        groups[frozenset(addresses.items())] += [port] if port is not None else []
    subsets = (
        Subset(
            _sorted(address for address, ready in group if ready),
            _sorted(address for address, ready in group if not ready),
            in_order(ports) or None,
        )
        for group, ports in groups.items()
    )
    return in_one_order(subsets)


def _ports(service: Service, pod: Pod) -> list[EndpointPort | None]:
    """None: a headless Service without ports, whose addresses count all the same."""
    if not service.ports:
        return [None] if service.headless else []
    return [replace(port, name=port.name or None) for port in endpoint_ports(service, pod)]


def _address(service: Service, pod: Pod) -> EndpointAddress | None:
    """The Pod's address of the Service's first family; None: it is not in."""
    if pod.terminal or (pod.terminating and not service.publish_not_ready):
        return None
    address = next((one for one in pod.addresses if family_of(one) == service.families[0]), None)
    if address is None:
        return None
    return EndpointAddress(address, hostname(service, pod) or None, pod.node or None, reference(pod))


def in_one_order(subsets: Iterable[Subset]) -> tuple[Subset, ...]:
    """The subsets in one order inside and out, so that equal content is an equal value."""
    ordered = (
        Subset(_sorted(one.addresses or ()), _sorted(one.not_ready_addresses or ()), in_order(one.ports or ()) or None)
        for one in subsets
    )
    return tuple(sorted(ordered, key=lambda one: (_texts(one.ports or ()), _ips(one))))


def _texts(ports: Ports) -> list[tuple[str, str, int]]:
    return [(port.name or "", port.protocol or "", port.port or 0) for port in ports]


def _ips(subset: Subset) -> list[str]:
    return [address.ip for address in (*(subset.addresses or ()), *(subset.not_ready_addresses or ()))]


def _sorted(addresses: Iterable[EndpointAddress]) -> Addresses | None:
    """By address and the Pod's UID; None: there are none, as the API has it."""
    return tuple(sorted(addresses, key=lambda one: (one.ip, one.target_ref.uid if one.target_ref else ""))) or None


def truncated(subsets: tuple[Subset, ...]) -> tuple[tuple[Subset, ...], bool]:
    """At most `MOST` addresses, ready ones first, from each subset in proportion; and whether some were left out."""
    ready = sum(len(one.addresses or ()) for one in subsets)
    others = sum(len(one.not_ready_addresses or ()) for one in subsets)
    if ready + others <= MOST:
        return subsets, False
    if ready > MOST:
        kept = _portions([one.addresses or () for one in subsets], ready, MOST)
        cut = [Subset(some or None, None, one.ports) for one, some in zip(subsets, kept, strict=True)]
    else:
        kept = _portions([one.not_ready_addresses or () for one in subsets], others, MOST - ready)
        cut = [Subset(one.addresses, some or None, one.ports) for one, some in zip(subsets, kept, strict=True)]
    return tuple(one for one in cut if one.addresses or one.not_ready_addresses), True


def _portions(groups: list[Addresses], total: int, room: int) -> list[Addresses]:
    found, left = [], room
    for group in groups:
        taken = group[: min(left, ceil(len(group) / total * room))]
        left -= len(taken)
        found.append(taken)
    return found
