"""Batches of changes: fold to one change per key, split by size, merge (S9), and encode as a Delta. Pure.

`controlplane.log` calls these functions and assigns the revisions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from controlplane.facts import unannounced
from controlplane.store import Change, in_order, wire_size
from deltaplane.codec import encode_op
from deltaplane.model import EndpointSlice, Kind, ObjectKey, Patch, Remove, Upsert
from deltaplane.patch import join
from deltaplane.v1 import delta_pb2 as pb
from deltaplane.v1 import objects_pb2

MAX_CAUSES = 8
MAX_OPS = 2000  # per batch; a larger change takes several revisions
BATCH_BYTES = 224 * 1024  # of ops per batch, unless a single op is larger
_WIRE_KINDS = {kind: objects_pb2.Kind.ValueType(int(kind)) for kind in Kind}


class Batch(Struct, frozen=True):
    """The changes from revision `rev` - 1 to `rev`, one per key, and the WatchResponse that carries them."""

    rev: int
    changes: tuple[Change, ...]
    causes: tuple[pb.Cause, ...]  # at most MAX_CAUSES
    more_causes: int
    digest: int | None  # of the state at `rev`; None inside a change that takes several revisions
    versions: tuple[tuple[Kind, str], ...]
    emitted_unix_nano: int
    awaited: bool  # somebody waits for its Acks
    at: float  # monotonic seconds
    message: bytes
    to_come: int = 0  # Services that later batches of the same change take away unannounced


def merge(batches: Sequence[Batch]) -> Batch:
    """One batch that does what these do one after another, without its message (S9)."""
    last = batches[-1]
    changes = tuple(in_order(fold(change for batch in batches for change in batch.changes)))
    causes = [cause for batch in batches for cause in batch.causes]
    kept = choose(causes)
    more = sum(batch.more_causes for batch in batches) + len(causes) - len(kept)
    awaited = any(batch.awaited for batch in batches)
    return replace(last, changes=changes, causes=kept, more_causes=more, awaited=awaited, message=b"")


def fold(changes: Iterable[Change]) -> list[Change]:
    """One change per key: the last value, as an op that applies to the state before the first change."""
    folded: dict[ObjectKey, Change] = {}
    for change in changes:
        before = folded.get(change.key)
        folded[change.key] = change if before is None else _after(before, change)
    return [change for change in folded.values() if not _void(change)]


def portions(changes: Iterable[Change]) -> Iterator[list[Change]]:
    """Splits the changes, in order, so that the message of each batch stays within BATCH_BYTES and MAX_OPS."""
    part: list[Change] = []
    size = 0
    for change in changes:
        more = change.size or wire_size(change.op)
        if part and (len(part) >= MAX_OPS or size + more > BATCH_BYTES):
            yield part
            part, size = [], 0
        part.append(change)
        size += more
    if part:
        yield part


def to_come(changes: Sequence[Change], parts: Sequence[Sequence[Change]]) -> list[int]:
    """For each of the parts that the changes were split into: how many Services go unannounced after it (S7)."""
    after = changes[-1].to_come if changes else 0  # the last portion that the source passed says what is still to come
    found = []
    for part in reversed(parts):
        found.append(after)
        after += sum(unannounced(change.key, change.object, deleted=change.deleted) for change in part)
    return found[::-1]


def _void(change: Change) -> bool:
    """Whether the object is the same before and after: added and removed, or changed and changed back."""
    if isinstance(change.op, Patch):
        return change.op.base_hash == change.op.new_hash
    return not change.existed and change.object is None


def _after(first: Change, second: Change) -> Change:
    op = second.op
    if isinstance(op, Patch):
        patched = isinstance(first.op, Patch)
        op = join(first.op, op) if isinstance(first.op, Patch) else op
        if not patched or _larger(op, second.object):
            op = _whole(second)
    return Change(op, second.key, second.object, first.before, second.origin, 0, second.deleted, second.to_come)


def _larger(patch: Patch, slice_: object) -> bool:
    size = len(slice_.endpoints) if isinstance(slice_, EndpointSlice) else 0
    return len(patch.upserts) + len(patch.removes) >= size


def _whole(change: Change) -> Upsert | Remove:
    return Upsert(change.object) if change.object is not None else Remove(change.key)


def encode(epoch: bytes, from_rev: int, batch: Batch) -> bytes:
    """The WatchResponse whose Delta leads from `from_rev` to the batch's revision."""
    message = pb.WatchResponse()
    delta = message.delta
    delta.epoch = epoch
    delta.from_rev = from_rev
    delta.to_rev = batch.rev
    for change in batch.changes:
        encode_op(change.op, delta.ops)
    delta.causes.extend(batch.causes)
    delta.more_causes = batch.more_causes
    delta.emitted_unix_nano = batch.emitted_unix_nano
    delta.ack_now = batch.awaited
    delta.announced_removals = sum(change.deleted and change.key.kind == Kind.SERVICE for change in batch.changes)
    delta.removals_to_come = batch.to_come
    for kind, version in batch.versions:
        delta.versions.add(kind=_WIRE_KINDS[kind], version=version)
    if batch.digest is not None:
        delta.digest = batch.digest
    return message.SerializeToString()


def choose(causes: Sequence[pb.Cause]) -> tuple[pb.Cause, ...]:
    """At most MAX_CAUSES causes: the traced ones first, because somebody waits for them, then the newest."""
    if len(causes) <= MAX_CAUSES:
        return tuple(causes)
    newest = list(enumerate(causes))
    newest.sort(key=lambda item: (not item[1].traceparent, -item[0]))
    return tuple(cause for _, cause in newest[:MAX_CAUSES])
