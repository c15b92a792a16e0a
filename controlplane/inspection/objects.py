"""Objects as this replica has them, readable: one by its key, or a kind in pages."""

from __future__ import annotations

from heapq import nsmallest

from controlplane.inspection.here import Here
from deltaplane.model import EndpointSlice, Kind, ObjectKey, Service
from deltaplane.v1 import inspection_pb2, objects_pb2, views_pb2
from deltaplane.views import key_of, object_view

PAGE, MOST = 100, 500  # objects
MOST_BYTES = 2 * 1024 * 1024  # of an answer, which must stay below 4 MiB
NEAR = 5


class Unknown(LookupError):
    """There is no such thing; the text says what is near."""


def shown(here: Here, key: ObjectKey) -> views_pb2.ObjectView:
    """The object with what is known of it. Raises `Unknown`."""
    store, lineage = here.cluster.store, here.cluster.lineage
    thing = store.get(key)
    if thing is None:
        raise Unknown(absent(here, key))
    view, stamp, seen = object_view(thing), lineage.of(key), store.seen(key)
    view.hash = f"{store.hash_of(key):016x}"
    view.resource_version = str(seen) if seen >= 0 else ""
    view.changed_rev, view.changed_unix_nano = stamp.rev, stamp.unix_nano
    view.problem = here.cluster.problem(key)
    if key.kind is Kind.SERVICE:
        slices = here.slices_of(key.namespace, key.name)
        view.endpoints_changed_rev = max((lineage.of(each.key).rev for each in slices), default=0)
    return view


def node_key(name: str) -> ObjectKey:
    """Of a Node."""
    return ObjectKey(Kind.NODE, "", name)


def absent(here: Here, key: ObjectKey) -> str:
    """Why there is no such object, and which names are near."""
    gone = here.cluster.lineage.gone(key)
    if gone is not None:
        return f"{key} is gone since revision {gone.rev}"
    problem = here.cluster.problem(key)
    if problem:
        return f"{key} cannot be used: {problem}"
    near = _near(here, key)
    text = f"there is no {key}, or it is none that a Service proxy serves"
    return f"{text}; near: {', '.join(near)}" if near else text


def _near(here: Here, key: ObjectKey) -> list[str]:
    """Names that have most letters in common, of the same kind."""
    wanted = set(key.name)
    others = here.cluster.store.keys(key.kind)
    same = [other for other in others if other.name == key.name]  # in another namespace
    alike = nsmallest(NEAR, others, key=lambda other: (len(wanted ^ set(other.name)), other))
    found = dict.fromkeys(str(other) for other in (*same, *alike) if len(wanted ^ set(other.name)) <= NEAR)
    return list(found)[:NEAR]


def get_object(here: Here, request: inspection_pb2.GetObjectRequest) -> inspection_pb2.GetObjectResponse:
    """Raises ValueError for a key that is none, `Unknown`."""
    key = key_of(request.key)
    answer = inspection_pb2.GetObjectResponse(
        object=shown(here, key),
        head_rev=here.head,
        epoch=here.epoch,
        kind_resource_version=here.cluster.store.versions.get(key.kind, ""),
    )
    if key.kind is Kind.SERVICE:
        size = 0
        for piece in here.slices_of(key.namespace, key.name):
            view = shown(here, piece.key)
            size += view.ByteSize()
            if size > MOST_BYTES:
                break
            answer.endpoint_slices.append(view)
    return answer


def list_objects(here: Here, request: inspection_pb2.ListObjectsRequest) -> inspection_pb2.ListObjectsResponse:
    """A page, sorted by namespace and name. Raises ValueError."""
    kind = _kind(request.kind)
    if request.service and (kind is not Kind.ENDPOINT_SLICE or not request.namespace):
        raise ValueError("service: goes with KIND_ENDPOINT_SLICE and a namespace")
    number = min(request.limit or PAGE, MOST)
    after = (request.after_namespace, request.after_name)
    keys = [
        key
        for key in here.cluster.store.keys(kind)
        if (key.namespace, key.name) > after and request.namespace in {"", key.namespace} and _is_of(here, key, request)
    ]
    answer = inspection_pb2.ListObjectsResponse(more=len(keys) > number)
    size = 0
    for key in nsmallest(number, keys):
        view = shown(here, key)
        size += view.ByteSize()
        if size > MOST_BYTES and answer.objects:
            answer.more = True
            break
        answer.objects.append(view)
    return answer


def _kind(number: int) -> Kind:
    try:
        return Kind(number)
    except ValueError:
        names = ", ".join(objects_pb2.Kind.keys()[1:])
        raise ValueError(f"kind: {number} is none of {names}") from None


def _is_of(here: Here, key: ObjectKey, request: inspection_pb2.ListObjectsRequest) -> bool:
    if not request.service:
        return True
    piece = here.cluster.store.get(key)
    return isinstance(piece, EndpointSlice) and piece.service == request.service


def service_named(here: Here, namespace: str, name: str) -> Service:
    """The Service. Raises `Unknown`, which says which are near."""
    found = here.service(namespace, name)
    if found is None:
        raise Unknown(absent(here, ObjectKey(Kind.SERVICE, namespace, name)))
    return found
