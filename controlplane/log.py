"""The history of one replica's life: dense revisions, each an immutable batch serialised once for all agents.

Called by the control plane's state (append) and by the sessions (what lies between two revisions). Old batches leave by
size and by age, never because of the slowest agent. It knows no streams and no sources; time is given to it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from os import urandom

from msgspec import Struct
from msgspec.structs import replace

from controlplane.store import Change, in_order, to_cause, wire_size
from deltaplane.codec import encode_op
from deltaplane.model import EndpointSlice, Kind, ObjectKey, Patch, Remove, Upsert
from deltaplane.patch import join
from deltaplane.v1 import delta_pb2 as pb
from deltaplane.v1 import objects_pb2

MAX_CAUSES = 8
RING_BYTES = 64 * 1024 * 1024
RING_SECONDS = 300.0
MAX_OPS = 2000  # per batch; a larger change takes several revisions
BATCH_BYTES = 224 * 1024  # of ops in one batch likewise, unless a single op is larger
MERGE_BATCHES = 1000  # into one message: a longer way to head takes several
_MEMO = 32  # merged ranges kept
_WIRE_KINDS = {kind: objects_pb2.Kind.ValueType(int(kind)) for kind in Kind}


class Batch(Struct, frozen=True):
    """The changes from `rev` - 1 to `rev`, each key once, and the WatchResponse that says them."""

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


class Log:
    """A ring of batches in one epoch. Revision 0 is the empty state before the first batch.

    `epoch` is random per replica start, so that revisions of two lives are never compared (S3).
    """

    def __init__(
        self, epoch: bytes | None = None, *, max_bytes: int = RING_BYTES, max_age: float = RING_SECONDS
    ) -> None:
        self.epoch = epoch if epoch is not None else urandom(16)
        self.head = 0
        self.size = 0  # bytes of all messages in the ring
        self.digest = 0  # of the state at head
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._ring: deque[Batch] = deque()
        self._merged: dict[tuple[int, int], bytes] = {}

    @property
    def tail(self) -> int:
        """The lowest revision that can still be brought to head by deltas."""
        return self.head - len(self._ring)

    def holds(self, rev: int) -> bool:
        """Whether what follows `rev` is still here."""
        return self.tail <= rev <= self.head

    def begin(self, digest: int) -> None:
        """Counts the first complete state as revision 1 without a batch: no agent can be at 0, so none needs the way.

        Every agent that comes is given a snapshot or found equal by digest. `digest` is the state's.
        """
        if self.head == 0:
            self.head = 1
            self.digest = digest

    def renew(self, digest: int) -> None:
        """Begins another history at the state with this digest, where nobody can say what led to it."""
        self.epoch = urandom(16)
        self.head, self.size, self.digest = 1, 0, digest
        self._ring.clear()
        self._merged.clear()

    def append(
        self,
        changes: Sequence[Change],
        *,
        digest: int,
        versions: Mapping[Kind, str],
        now: float,
        unix_nano: int,
        awaited: bool = False,
    ) -> list[Batch]:
        """Gives the changes the next revision (several, when there is very much) and lets old batches go.

        `digest` and `versions` are the store's after the changes. What came and went within them takes no revision.
        Whatever it raises, it raises before the history has moved.
        """
        folded = list(in_order(_fold(changes)))
        causes = [to_cause(change.origin) for change in changes]
        kept = choose(causes)
        parts = list(_portions(folded))
        built = []
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            batch = Batch(
                rev=self.head + index + 1,
                changes=tuple(part),
                causes=kept if last else (),
                more_causes=len(causes) - len(kept) if last else 0,
                digest=digest if last else None,
                versions=tuple(sorted(versions.items())) if last else (),
                emitted_unix_nano=unix_nano,
                awaited=awaited,
                at=now,
                message=b"",
            )
            built.append(replace(batch, message=_delta(self.epoch, batch.rev - 1, batch)))
        for batch in built:
            self._push(batch)
        self.digest = digest
        self.expire(now)
        return built

    def _push(self, batch: Batch) -> None:
        self._ring.append(batch)
        self.head = batch.rev
        self.size += len(batch.message)

    def expire(self, now: float) -> None:
        """Lets go of batches beyond the ring's size or age."""
        while self._ring and (self.size > self._max_bytes or now - self._ring[0].at > self._max_age):
            self.size -= len(self._ring.popleft().message)

    def digest_at(self, rev: int) -> int | None:
        """The state digest at `rev`, None where the ring does not know it."""
        if rev <= self.tail or rev > self.head:
            return None
        return self._batch(rev).digest

    def between(self, low: int, high: int) -> list[Batch]:
        """The batches (low, high]; both must be held."""
        if not self.tail <= low <= high <= self.head:
            raise LookupError(f"revisions {low} to {high} are not within {self.tail} to {self.head}")
        ring, skipped = self._ring, low - self.tail
        if high - low < 8 or skipped > len(ring) // 2:  # near an end of the ring, where its items are at hand
            return [ring[index] for index in range(skipped, high - self.tail)]
        return list(islice(ring, skipped, high - self.tail))

    def _batch(self, rev: int) -> Batch:
        return self._ring[rev - self.tail - 1]

    def merged(self, low: int, high: int) -> bytes:
        """A WatchResponse with the one Delta that leads from `low` to `high`; the same bytes for everybody (S9)."""
        batches = self.between(low, high)
        if len(batches) == 1:
            return batches[0].message
        message = self._merged.get((low, high))
        if message is None:
            message = _delta(self.epoch, low, merge(batches))
            while len(self._merged) >= _MEMO:
                del self._merged[next(iter(self._merged))]
            self._merged[low, high] = message
        return message


def merge(batches: Sequence[Batch]) -> Batch:
    """One batch that does what these do one after another, without its message (S9)."""
    last = batches[-1]
    changes = tuple(in_order(_fold(change for batch in batches for change in batch.changes)))
    causes = [cause for batch in batches for cause in batch.causes]
    kept = choose(causes)
    more = sum(batch.more_causes for batch in batches) + len(causes) - len(kept)
    awaited = any(batch.awaited for batch in batches)
    return replace(last, changes=changes, causes=kept, more_causes=more, awaited=awaited, message=b"")


def _fold(changes: Iterable[Change]) -> list[Change]:
    """Each key once: the last value, as an op that is right for a receiver at the state before the first change."""
    folded: dict[ObjectKey, Change] = {}
    for change in changes:
        before = folded.get(change.key)
        folded[change.key] = change if before is None else _after(before, change)
    return [change for change in folded.values() if not _void(change)]


def _portions(changes: Iterable[Change]) -> Iterator[list[Change]]:
    """The changes in their order, cut so that each batch's message is small."""
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


def _void(change: Change) -> bool:
    """It came and went, or went and came back as it was."""
    if isinstance(change.op, Patch):
        return change.op.base_hash == change.op.new_hash
    return not change.existed and change.object is None


def _after(first: Change, second: Change) -> Change:
    existed, op = first.existed, second.op
    if isinstance(op, Patch):
        patched = isinstance(first.op, Patch)
        op = join(first.op, op) if isinstance(first.op, Patch) else op
        if not patched or _larger(op, second.object):
            op = _whole(second)
    return Change(op, second.key, second.object, existed, second.origin, 0, second.deleted)


def _larger(patch: Patch, slice_: object) -> bool:
    size = len(slice_.endpoints) if isinstance(slice_, EndpointSlice) else 0
    return len(patch.upserts) + len(patch.removes) >= size


def _whole(change: Change) -> Upsert | Remove:
    return Upsert(change.object) if change.object is not None else Remove(change.key)


def _delta(epoch: bytes, from_rev: int, batch: Batch) -> bytes:
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
    for kind, version in batch.versions:
        delta.versions.add(kind=_WIRE_KINDS[kind], version=version)
    if batch.digest is not None:
        delta.digest = batch.digest
    return message.SerializeToString()


def choose(causes: Sequence[pb.Cause]) -> tuple[pb.Cause, ...]:
    """At most MAX_CAUSES of them: traced ones first, since somebody waits for them, then the newest."""
    if len(causes) <= MAX_CAUSES:
        return tuple(causes)
    newest = list(enumerate(causes))
    newest.sort(key=lambda item: (not item[1].traceparent, -item[0]))
    return tuple(cause for _, cause in newest[:MAX_CAUSES])
