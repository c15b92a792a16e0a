"""Hints by the annotation `service.kubernetes.io/topology-mode: Auto`: each zone gets endpoints for its share of CPUs.

Pure; called by `slicing`. Follows k8s.io/endpointslice 0.36, topologycache, made deterministic. Where a share cannot be
had (fewer than two zones, a Node of unknown zone or CPU, too few endpoints) no endpoint has hints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from math import ceil
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from controlplane.endpoints.objects import Endpoint, EndpointSlice, ForName, Hints
from controlplane.endpoints.values import Node

OVERLOAD = 0.2  # more than its share, that an endpoint may get


class Part(Protocol):
    """One slice on its way (`slicing.Part`). Its endpoints come without hints."""

    was: EndpointSlice | None
    endpoints: list[Endpoint]
    touched: bool

    @property
    def emptied(self) -> bool: ...


class _Allocation(Struct, frozen=True):
    """Endpoints that a zone should have."""

    maximum: int
    desired: float


def share(parts: Iterable[Part], cluster: Sequence[Node]) -> None:
    """Sets the hints. A slice that is not touched stays as it is if its hints still do."""
    live = [part for part in parts if not part.emptied]
    ready = [endpoint for part in live for endpoint in part.endpoints if _ready(endpoint)]
    allocations = _allocations(_ratios(cluster), len(ready))
    if not allocations or not all(endpoint.zone for endpoint in ready):
        for part in live:
            part.touched |= any(endpoint.hints for endpoint in _before(part))
        return
    allocated: Counter[str] = Counter()
    for part in live:
        _keep(part, allocations, allocated)
    touched = [part for part in live if part.touched]
    for part in touched:
        part.endpoints[:] = [_hinted(endpoint, endpoint.zone or "") for endpoint in part.endpoints]
        allocated.update(endpoint.zone or "" for endpoint in part.endpoints if _ready(endpoint))
    _redistribute(touched, *_differences(allocations, allocated))


def _before(part: Part) -> tuple[Endpoint, ...]:
    return (part.was.endpoints if part.was else None) or ()


def _ready(endpoint: Endpoint) -> bool:
    return endpoint.conditions is not None and endpoint.conditions.ready is True


def _hinted(endpoint: Endpoint, zone: str) -> Endpoint:
    return replace(endpoint, hints=Hints((ForName(zone),)) if _ready(endpoint) else None)


def _ratios(cluster: Sequence[Node]) -> dict[str, float]:
    """Each zone's part of the CPUs; empty if it is not known, or there is but one zone."""
    counted = [node for node in cluster if node.counted]
    if not all(node.zone and node.milli_cpu for node in counted):
        return {}
    zones: Counter[str] = Counter()
    for node in counted:
        zones[node.zone] += node.milli_cpu
    return {zone: cpu / zones.total() for zone, cpu in sorted(zones.items())} if len(zones) > 1 else {}


def _allocations(ratios: dict[str, float], number: int) -> dict[str, _Allocation]:
    """Empty if there are too few endpoints, or every way overloads one of them."""
    desired = {zone: ratio * number for zone, ratio in ratios.items()}
    minimum = {zone: ceil(wish / (1 + OVERLOAD)) for zone, wish in desired.items()}
    spare = number - sum(minimum.values())
    if len(ratios) > number or spare < 0:
        return {}
    return {zone: _Allocation(minimum[zone] + spare, max(desired[zone], minimum[zone])) for zone in ratios}


def _keep(part: Part, allocations: dict[str, _Allocation], allocated: Counter[str]) -> None:
    """Keeps an untouched slice's hints, if every ready endpoint has some, and no zone gets more than its maximum."""
    if part.touched:
        return
    hints = [endpoint.hints.for_zones if endpoint.hints else None for endpoint in _before(part) if _ready(endpoint)]
    zones = Counter(zone.name for some in hints for zone in some or ())
    fits = all(zone in allocations and allocated[zone] + n <= allocations[zone].maximum for zone, n in zones.items())
    if all(hints) and fits:
        allocated.update(zones)
        part.endpoints[:] = _before(part)
    else:
        part.touched = True


def _differences(allocations: dict[str, _Allocation], allocated: Counter[str]) -> tuple[Counter[str], Counter[str]]:
    """How many endpoints each zone gives to others, and gets from them."""
    over = {zone: allocated[zone] - one.desired for zone, one in allocations.items() if allocated[zone] > one.desired}
    under = {zone: one.desired - allocated[zone] for zone, one in allocations.items() if allocated[zone] < one.desired}
    giving, receiving = Counter[str](), Counter[str]()
    while over and under:
        giver, receiver = max(over, key=over.__getitem__), max(under, key=under.__getitem__)
        if min(over[giver], under[receiver]) < 0.5 or max(over[giver], under[receiver]) < 1:
            break
        for zones, zone, result in ((over, giver, giving), (under, receiver, receiving)):
            zones[zone] -= 1
            result[zone] += 1
    return giving, receiving


def _redistribute(parts: Iterable[Part], giving: Counter[str], receiving: Counter[str]) -> None:
    for part in parts:
        for place, endpoint in enumerate(part.endpoints):
            zone = endpoint.zone or ""
            if not _ready(endpoint) or giving[zone] <= 0:
                continue
            receiver = next(zone for zone, number in receiving.items() if number > 0)
            part.endpoints[place] = _hinted(endpoint, receiver)
            giving[zone] -= 1
            receiving[receiver] -= 1
