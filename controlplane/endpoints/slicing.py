"""Which slices to create, update and delete so that a Service has the endpoints it should have. Pure.

The algorithm is that of k8s.io/endpointslice 0.36 (reconciler.go), made deterministic: an endpoint stays in its slice,
a slice that changes anyway is filled first, then one slice with room for all that is left, and what is left goes into
new slices. A slice that would be deleted becomes the one that would be created. So one Pod's change is one write.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from controlplane.endpoints.desired import Nodes, Ports, Wanted, id_of, in_order, wanted
from controlplane.endpoints.names import SLICE_MANAGER
from controlplane.endpoints.objects import Endpoint, EndpointSlice, ObjectMeta, OwnerReference
from controlplane.endpoints.topology_mode import share
from controlplane.endpoints.values import Node, Pod, Service

MOST = 100  # endpoints of a slice (--max-endpoints-per-slice of kube-controller-manager)
SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
HEADLESS = "service.kubernetes.io/headless"
_RESERVED = frozenset({SERVICE_NAME, MANAGED_BY, HEADLESS})


class Write(Struct, frozen=True):
    """`before` without `after`: delete; `after` without `before`: create, with a name of the server's choice."""

    before: EndpointSlice | None
    after: EndpointSlice | None

    @property
    def verb(self) -> str:
        return "delete" if self.after is None else "create" if self.before is None else "update"


def loses(write: Write, refused: Write) -> bool:
    """Whether the deletion would take endpoints away that the refused write was to have."""
    if write.after is not None or write.before is None or refused.after is None:
        return False
    return not {*map(id_of, write.before.endpoints or ())}.isdisjoint(map(id_of, refused.after.endpoints or ()))


class Part:
    """One slice on its way. `was`: None for a new one."""

    def __init__(self, ports: Ports, endpoints: list[Endpoint], was: EndpointSlice | None = None) -> None:
        self.was, self.ports, self.endpoints = was, ports, endpoints
        self.touched = was is None

    @property
    def emptied(self) -> bool:
        """Whether it is of no use: it has lost all its endpoints, or was there to say that there are none."""
        return self.was is not None and not self.endpoints

    @property
    def room(self) -> int:
        return MOST - len(self.endpoints)


def plan(
    service: Service, pods: Iterable[Pod], nodes: Nodes, existing: Iterable[EndpointSlice],
    cluster: Sequence[Node] = (), *, manager: str = SLICE_MANAGER,
) -> list[Write]:  # fmt: skip
    """The writes, deletions last. `existing`: the Service's slices of this `manager`. `cluster`: all Nodes.

    `cluster` is needed only where `service.topology_mode` is set.
    """
    service = replace(service, labels=_labels(service, manager))  # from here on: the slices'
    slices = sorted((one for one in existing if one.metadata.deletion_timestamp is None), key=lambda s: s.metadata.name)
    desired = wanted(service, pods, nodes)
    writes = [Write(one, None) for one in slices if one.address_type not in desired]
    for family, groups in desired.items():
        writes += _of_family(service, family, groups, [one for one in slices if one.address_type == family], cluster)
    needed = (write for write in writes if write.after != write.before)
    usable = (write for write in needed if not (service.deleting and write.verb == "create"))
    return sorted(usable, key=lambda write: write.after is None)


def _of_family(
    service: Service, family: str, groups: dict[Ports, Wanted], slices: list[EndpointSlice], cluster: Sequence[Node]
) -> list[Write]:
    own = [one for one in slices if _owned(one, service)]
    parts = [part for ports, group in groups.items() for part in _of_ports(service, ports, group, own)]
    if service.topology_mode:
        share(parts, cluster)
    useless = [one for one in own if in_order(one.ports or ()) not in groups]
    useless += [part.was for part in parts if part.emptied and part.was is not None]
    made = [part for part in parts if part.was is None]
    if len(useless) == len(own) and not made:
        made, useless = _placeholder(service, useless)
    foreign = [one for one in slices if not _owned(one, service)]
    changed = [part for part in parts if part.was is not None and part.touched and not part.emptied]
    return [
        *(Write(part.was, _slice(service, family, part)) for part in changed),
        *_paired(service, family, made, useless),
        *(Write(one, None) for one in foreign),
    ]


def _owned(one: EndpointSlice, service: Service) -> bool:
    """Whether it is of this very Service, not of an earlier one of the same name."""
    return any(
        owner.uid == service.uid and owner.kind == "Service" and owner.api_version == "v1"
        for owner in one.metadata.owner_references or ()
    )


def _of_ports(service: Service, ports: Ports, group: Wanted, own: list[EndpointSlice]) -> list[Part]:
    """The slices with these ports, existing and new, with all endpoints of the group."""
    left = dict(group)
    parts = [
        _kept(one, ports, left, service.labels, hints=not service.topology_mode)
        for one in own
        if in_order(one.ports or ()) == ports
    ]
    _fill([part for part in parts if part.touched and not part.emptied], left)
    while left:
        _place(parts, ports, left)
    return parts


def _kept(one: EndpointSlice, ports: Ports, left: Wanted, labels: dict[str, str], *, hints: bool) -> Part:
    """The slice with those of its endpoints that are still wanted, which are taken out of `left`.

    `hints`: whether a difference in hints counts; else they are `topology_mode.share`'s.
    """
    before = (one.endpoints or ()) if hints else tuple(replace(each, hints=None) for each in one.endpoints or ())
    after = [left.pop(id_) for id_ in map(id_of, before) if id_ in left]
    part = Part(ports, after, one)
    part.touched = tuple(after) != before or one.metadata.labels != labels
    return part


def _fill(parts: list[Part], left: Wanted) -> None:
    """Puts what is left into slices that change anyway, the fullest first."""
    for part in sorted(parts, key=lambda part: part.room):
        for id_ in list(left)[: part.room]:
            part.endpoints.append(left.pop(id_))


def _place(parts: list[Part], ports: Ports, left: Wanted) -> None:
    """Puts what is left into the unchanged slice that it fills best, or as much as fits into a new one."""
    fitting = [part for part in parts if not part.touched and part.room >= len(left)] if len(left) < MOST else []
    if fitting:
        part = min(fitting, key=lambda part: part.room)
        part.touched = True
    else:
        part = Part(ports, [])
        parts.append(part)
    _fill([part], left)


def _placeholder(service: Service, useless: list[EndpointSlice]) -> tuple[list[Part], list[EndpointSlice]]:
    """A Service without endpoints has one slice that says so: no ports, no endpoints."""
    empty = (one for one in useless if not one.endpoints and not one.ports)
    kept = next((one for one in empty if one.metadata.labels == service.labels), None)
    if kept is None:
        return [Part((), [])], useless
    return [], [one for one in useless if one is not kept]


def _paired(service: Service, family: str, made: list[Part], useless: list[EndpointSlice]) -> list[Write]:
    """A slice to delete becomes one to create; what remains is created or deleted."""
    for part, one in zip(made, useless, strict=False):
        part.was = one
    writes = [Write(part.was, _slice(service, family, part)) for part in made]
    return writes + [Write(one, None) for one in useless[len(made) :]]


def _slice(service: Service, family: str, part: Part) -> EndpointSlice:
    meta = part.was.metadata if part.was else _metadata(service)
    return EndpointSlice(replace(meta, labels=service.labels), family, tuple(part.endpoints), part.ports)


def _metadata(service: Service) -> ObjectMeta:
    owner = OwnerReference("v1", "Service", service.name, service.uid, controller=True, block_owner_deletion=True)
    return ObjectMeta(generate_name=f"{service.name}-", namespace=service.namespace, owner_references=(owner,))


def _labels(service: Service, manager: str) -> dict[str, str]:
    """The Service's labels, but for those that say what the slice is."""
    own = {SERVICE_NAME: service.name, MANAGED_BY: manager, **({HEADLESS: ""} if service.headless else {})}
    return {**{key: value for key, value in service.labels.items() if key not in _RESERVED}, **own}
