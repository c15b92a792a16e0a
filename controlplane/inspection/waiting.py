"""WaitApplied: the question as targets, and the messages of the answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress

from controlplane.inspection.here import Here
from controlplane.inspection.lacking import all_lacking
from controlplane.inspection.objects import Unknown, absent
from controlplane.inspection.removal import OfRemoval
from controlplane.inspection.selection import Selection
from controlplane.inspection.targets import (
    ABSENT,
    AfterVersions,
    OfDigest,
    OfObjects,
    OfRevision,
    OfVersions,
    Target,
    Version,
    version_of,
    with_slices,
)
from controlplane.inspection.waits import LOOKS, NEWS_LOOKS, Waiter, Waits
from controlplane.store import number_of
from deltaplane.model import Kind
from deltaplane.v1 import inspection_pb2 as pb
from deltaplane.v1 import objects_pb2
from deltaplane.views import key_of

USUAL, LONGEST = 30.0, 600.0  # seconds
MOST = 1000  # nodes that are named with their reasons
PAUSE = 0.1  # seconds between two messages at least
NEWS = 2.0  # seconds between two messages while nothing changes


class OtherEpoch(ValueError):
    """The revision is not one of this replica's history."""


def target_of(here: Here, request: pb.WaitAppliedRequest) -> Target:
    """What is waited for. Raises ValueError for a question that is none, `Unknown` for an object that is not there."""
    match request.WhichOneof("what"):
        case "object":
            return _not_older(here, request, _objects(here, request))
        case "revision":
            return _revision(here, request)
        case "removed_address":
            return _not_older(here, request, _removal(here, request))
    raise ValueError("one of object, revision and removed_address is needed")


def _not_older(here: Here, request: pb.WaitAppliedRequest, target: Target) -> Target:
    return AfterVersions(target, _seen(here, request)) if request.versions else target


def _seen(here: Here, request: pb.WaitAppliedRequest) -> OfVersions:
    return OfVersions(here, {Kind(each.kind): number_of(each.version) for each in request.versions})


def _removal(here: Here, request: pb.WaitAppliedRequest) -> OfRemoval:
    try:
        return OfRemoval(here, request.removed_address)
    except ValueError as error:
        raise ValueError(f"removed_address: {error}") from None


def _objects(here: Here, request: pb.WaitAppliedRequest) -> OfObjects:
    """From a peer: exactly what it names. From an operator: a Service has the slices that this replica has now."""
    of_service = request.object.key.kind == objects_pb2.KIND_SERVICE
    if request.also or request.object.hash:
        named = [_version(each) for each in (request.object, *request.also)]
        return OfObjects(here, named, service=named[0].key if of_service and not request.versions else None)
    now = here.head if of_service or not request.object.resource_version else 0
    return OfObjects(here, _versions(here, request), now)


def _versions(here: Here, request: pb.WaitAppliedRequest) -> list[Version]:
    key = key_of(request.object.key)
    if request.object.resource_version:
        return [_version(request.object), *(version_of(here, each) for each in with_slices(here, key)[1:])]
    if here.cluster.store.get(key) is None and here.cluster.lineage.gone(key) is None:
        raise Unknown(absent(here, key))
    return [version_of(here, each) for each in with_slices(here, key)]


def _version(given: pb.ObjectVersion) -> Version:
    number = number_of(given.resource_version)
    if given.resource_version and number < 0:
        raise ValueError(f"object.resource_version: {given.resource_version!r} is not a number")
    try:
        return Version(key_of(given.key), number, int(given.hash if given.hash not in {"", ABSENT} else "0", 16))
    except ValueError as error:
        raise ValueError(f"object: {error}") from None


def _revision(here: Here, request: pb.WaitAppliedRequest) -> Target:
    if request.versions:
        return _seen(here, request)
    if request.digest:
        return OfDigest(here, int(request.digest, 16))
    if request.revision.epoch not in {"", here.epoch}:
        raise OtherEpoch(f"revision.epoch: this replica counts in epoch {here.epoch}, not in {request.revision.epoch}")
    return OfRevision(here, request.revision.rev or here.head)


def deadline_of(request: pb.WaitAppliedRequest) -> float:
    """Seconds. Raises ValueError."""
    seconds = request.timeout_seconds or USUAL
    if not 0 < seconds <= LONGEST:
        raise ValueError(f"timeout_seconds: {seconds:g} is not 0 to {LONGEST:g}")
    return seconds


async def wait_here(
    here: Here, waits: Waits, request: pb.WaitAppliedRequest, caller: str
) -> AsyncGenerator[pb.WaitAppliedResponse, None]:
    """What this replica alone can say, for a peer: each node of its own once it has it, until the peer goes.

    Raises ValueError, `Unknown`, `TooManyWaiters`, `Stopping`.
    """
    seconds, began = deadline_of(request), time.monotonic()
    waiter = Waiter(here, target_of(here, request), Selection(here, request.nodes, alone=True))
    told: set[str] = set()
    full = heard = float("-inf")  # when the nodes that lack it were named last, and when anything was said
    with waits.waiting(waiter, request, caller):
        while (left := began + seconds - time.monotonic()) > 0:
            await moved(waiter, left, min(waits.spell(PAUSE, LOOKS), NEWS / 2))
            waits.unless_stopping()
            if waiter.rev is None:
                waiter.decide()
            names = waiter.selection.names()
            new = [name for name in names if name not in told and waiter.has(name)]
            told.update(new)
            lost = [name for name in names if name not in told]
            message = message_of(waiter, began, len(names), len(lost))
            message.newly_applied.extend(sorted(new))
            message.newly_applied_stream_seconds.extend(map(here.stream_seconds, sorted(new)))
            message.replicas.append(here.status())
            now = time.monotonic()
            if now - full >= waits.spell(NEWS, NEWS_LOOKS) or now - began >= seconds - PAUSE:
                full = now
                message = merged(reasons(here, waiter, lost), message)
            if new or message.lacking or now - heard >= NEWS:
                heard = now
                yield message


async def moved(waiter: Waiter, left: float, pause: float) -> None:
    """Waits for news, for a while, and not shorter than `pause`, but so that the last word comes in time."""
    await asyncio.sleep(min(max(PAUSE, min(pause, left - 2 * PAUSE)), left))
    with suppress(TimeoutError):
        async with asyncio.timeout(min(NEWS, max(0.0, left - 2 * PAUSE))):
            await waiter.moved.wait()
    waiter.moved.clear()


def reasons(here: Here, waiter: Waiter, names: Iterable[str]) -> pb.WaitAppliedResponse:
    """A message that has these alone: why each does not have it, as far as this replica knows."""
    text = waiter.target.text() if waiter.rev is None else ""
    return all_lacking(here, sorted(names)[:MOST], waiter.rev, waiter.target.keys, text)


def merged(long: pb.WaitAppliedResponse, short: pb.WaitAppliedResponse) -> pb.WaitAppliedResponse:
    """Both; merging the long one into the short one would copy it."""
    long.MergeFrom(short)
    return long


def message_of(waiter: Waiter, began: float, chosen: int, lack: int) -> pb.WaitAppliedResponse:
    """How far it is."""
    return pb.WaitAppliedResponse(
        chosen_nodes=chosen,
        nodes_applied=chosen - lack,
        more_lacking=max(0, lack - MOST),
        rev=waiter.rev or 0,
        text=waiter.target.text() if waiter.rev is None else "" if chosen else "no node is chosen",
        waited_seconds=time.monotonic() - began,
    )
