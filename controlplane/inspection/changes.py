"""The changes of this replica as they happen, readable: TailChanges, and the last ones for a dump."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from ipaddress import ip_address

from controlplane.batch import Batch
from controlplane.inspection.here import Here
from controlplane.inspection.objects import Unknown, shown
from controlplane.store import Change
from deltaplane.model import EndpointSlice, Kind, Object, ObjectKey, Patch, Service
from deltaplane.v1 import inspection_pb2 as pb
from deltaplane.views import conditions_text, key_message

MOST_TEXT = 10  # endpoints that a change names


async def tail(here: Here, request: pb.TailChangesRequest) -> AsyncGenerator[pb.TailChangesResponse, None]:
    """From the revision that is asked for, without end. A new history goes on from its first revision."""
    news = asyncio.Event()
    log = here.cluster.log
    at = _start(here, request)
    epoch = log.epoch
    with here.cluster.waking(news.set):
        while True:
            news.clear()
            if log.epoch != epoch:
                epoch, at = log.epoch, 0
            for message in _earlier(here, at, request):
                yield message
            at = max(at, log.tail)
            for batch in log.between(at, log.head) if at < log.head else ():
                at = batch.rev
                for message in readable(here, batch, request):
                    yield message
                if log.epoch != epoch or at < log.tail:
                    break  # meanwhile the log has moved on
            if at >= log.head:
                await news.wait()


def _start(here: Here, request: pb.TailChangesRequest) -> int:
    """The revision after which changes are told."""
    log = here.cluster.log
    if not request.after_unix_nano:
        return request.after_rev or log.head
    stamps = ((stamp.rev, stamp.unix_nano) for _, stamp, _ in here.cluster.lineage.stamps())
    kept = ((batch.rev, batch.emitted_unix_nano) for batch in log.between(log.tail, log.head))
    later = (rev for rev, sent in (*stamps, *kept) if sent > request.after_unix_nano)
    return min(later, default=log.head + 1) - 1


def _earlier(here: Here, low: int, request: pb.TailChangesRequest) -> list[pb.TailChangesResponse]:
    """How many revisions after `low` are no longer kept, and the last change of each object, where it is in them."""
    high = here.cluster.log.tail
    if low >= high:
        return []
    found: list[pb.TailChangesResponse] = []
    for key, stamp, there in here.cluster.lineage.stamps():
        thing = here.cluster.store.get(key)
        if not low < stamp.rev <= high or not _wanted(key, thing, request):
            continue
        kind = pb.CHANGE_KIND_MODIFIED if there else pb.CHANGE_KIND_REMOVED
        message = pb.TailChangesResponse(
            rev=stamp.rev, key=key_message(key), change=kind, resource_version=stamp.version,
            emitted_unix_nano=stamp.unix_nano, text="its last change; what it was is no longer kept",
        )  # fmt: skip
        found.append(message)
    lost = pb.TailChangesResponse(rev=high, lost_revs=high - low)
    return [lost, *sorted(found, key=lambda each: each.rev)]


def readable(here: Here, batch: Batch, request: pb.TailChangesRequest) -> Iterator[pb.TailChangesResponse]:
    """What of a batch is asked for."""
    causes = {change.key: change.origin for change in batch.changes}
    for change in batch.changes:
        if not _is_asked_for(change, request):
            continue
        origin = causes[change.key]
        message = pb.TailChangesResponse(
            rev=batch.rev,
            key=key_message(change.key),
            change=_kind(change),
            resource_version=origin.resource_version,
            event_unix_nano=origin.event_unix_nano,
            emitted_unix_nano=batch.emitted_unix_nano,
            text=said(change),
        )
        if request.objects and change.object is not None:
            with suppress(Unknown):  # it has gone since
                message.object.CopyFrom(shown(here, change.key))
        yield message


def _is_asked_for(change: Change, request: pb.TailChangesRequest) -> bool:
    return _wanted(change.key, change.object or change.before, request)


def _wanted(key: ObjectKey, thing: Object | None, request: pb.TailChangesRequest) -> bool:
    if request.kind and int(request.kind) != int(key.kind):
        return False
    if request.namespace not in {"", key.namespace}:
        return False
    owner = thing.service if isinstance(thing, EndpointSlice) else ""
    return request.name in {"", key.name} or (bool(owner) and request.name == owner and not request.kind)


def _kind(change: Change) -> pb.ChangeKind.ValueType:
    if change.object is None:
        return pb.CHANGE_KIND_REMOVED
    return pb.CHANGE_KIND_MODIFIED if change.existed else pb.CHANGE_KIND_ADDED


def said(change: Change) -> str:
    """What changed, for a person."""
    op, thing = change.op, change.object
    if isinstance(op, Patch):
        parts = [f"{ip_address(each.address)} {conditions_text(each.conditions)}" for each in op.upserts]
        parts += [f"{ip_address(address)} gone" for address in op.removes]
        return _cut(parts)
    if isinstance(thing, EndpointSlice):
        return f"of Service {thing.service}: {_cut([str(ip_address(each.address)) for each in thing.endpoints])}"
    if isinstance(thing, Service):
        ports = ", ".join(str(port.port) for port in thing.ports)
        return f"{', '.join(str(ip_address(each)) for each in thing.cluster_ips)} ports {ports}"
    if change.key.kind is Kind.NODE and thing is not None:
        return f"zone {getattr(thing, 'zone', '') or 'none'}"
    return "gone" if thing is None else ", ".join(getattr(thing, "cidrs", ()))


def _cut(parts: list[str]) -> str:
    more = f" and {len(parts) - MOST_TEXT} more" if len(parts) > MOST_TEXT else ""
    return (", ".join(parts[:MOST_TEXT]) or "no endpoints") + more
