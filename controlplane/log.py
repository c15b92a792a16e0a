"""The history of one replica's life: dense revisions, each an immutable batch serialised once for all agents.

`controlplane.cluster` appends; the streams read what lies between two revisions. Old batches leave by size and age, and
never wait for the slowest agent. It knows no streams and no sources. Callers pass the time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import islice
from os import urandom

from msgspec.structs import replace

from controlplane.batch import Batch, choose, encode, fold, merge, portions, to_come
from controlplane.earlier import Earlier
from controlplane.store import Change, in_order, to_cause
from deltaplane.model import Kind
from deltaplane.v1 import delta_pb2 as pb

RING_BYTES = 64 * 1024 * 1024
RING_SECONDS = 300.0
STEPS = (32, 256, 1024)  # revisions: a long way leads over their multiples
DIRECT = 256  # revisions in one message, wherever they begin
_MEMO = 128  # merged ranges kept
_RECENT = 32  # ranges whose causes are kept
Causes = tuple[tuple[pb.Cause, ...], int, int]


class Log:
    """A ring of batches in one epoch. Revision 0 is the empty state before the first batch.

    `epoch` is random per start of the replica, so that revisions of two starts are never compared (S3).
    """

    def __init__(
        self, epoch: bytes | None = None, *, max_bytes: int = RING_BYTES, max_age: float = RING_SECONDS
    ) -> None:
        self.epoch = epoch if epoch is not None else urandom(16)
        self.head = 0
        self.offered = 0  # what streams are sent: head, or less while the next round is not due
        self.paced = False  # whether somebody calls `offer`; otherwise each revision is offered at once
        self.size = 0  # bytes of all messages in the ring
        self.digest = 0  # of the state at head
        self.earlier = Earlier()  # what was there before the changes that have left the ring
        self._base: int | None = None  # of the state at tail
        self._tail_at = 0.0  # when the revision at tail was made, monotonic; of no meaning before one is dropped
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._ring: deque[Batch] = deque()
        self._merged: dict[tuple[int, int], bytes] = {}
        self._causes: dict[tuple[int, int], Causes] = {}

    @property
    def tail(self) -> int:
        """The lowest revision that can still be brought to head by deltas."""
        return self.head - len(self._ring)

    def holds(self, rev: int) -> bool:
        """Whether what follows `rev` is still here."""
        return self.tail <= rev <= self.head

    def begin(self, digest: int) -> None:
        """Makes the first complete state revision 1, without a batch: no agent can be at revision 0.

        Every agent that connects gets a snapshot, or its digest is equal. `digest` is that of the state.
        """
        if self.head == 0:
            self.head = self.offered = 1
            self.digest = self._base = digest
            self.earlier.clear(1)

    def offer(self) -> None:
        """Lets the streams have all revisions up to head."""
        self.offered = self.head

    def renew(self, digest: int) -> None:
        """Begins a new history, in a new epoch, at the state with this digest."""
        self.epoch = urandom(16)
        self.head, self.size, self.digest, self._base = 1, 0, digest, digest
        self.offered = 1
        self._ring.clear()
        self.earlier.clear(1)
        self._merged.clear()
        self._causes.clear()

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
        """Gives the changes the next revision, or several if they are large, and drops old batches.

        `digest` and `versions` are those of the store after the changes. Changes that cancel each other out take no
        revision. If it raises, the history is unchanged.
        """
        folded = list(in_order(fold(changes)))
        causes = [to_cause(change.origin) for change in changes]
        kept = choose(causes)
        parts = list(portions(folded))
        built = []
        for index, (part, later) in enumerate(zip(parts, to_come(changes, parts), strict=True)):
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
                to_come=later,
            )
            built.append(replace(batch, message=encode(self.epoch, batch.rev - 1, batch)))
        for batch in built:
            self._push(batch)
        self.digest = digest
        if not self.paced:
            self.offer()
        self.expire(now)
        return built

    def _push(self, batch: Batch) -> None:
        self._ring.append(batch)
        self.head = batch.rev
        self.size += len(batch.message)

    def expire(self, now: float) -> None:
        """Drops batches beyond the ring's size or age."""
        while self._ring and (self.size > self._max_bytes or now - self._ring[0].at > self._max_age):
            oldest = self._ring.popleft()
            self.size -= len(oldest.message)
            self._base, self._tail_at = oldest.digest, oldest.at
            self.earlier.take(oldest.rev, ((change.key, change.before) for change in oldest.changes))

    def digest_at(self, rev: int) -> int | None:
        """The state digest at `rev`; None if it is not known."""
        if rev == self.tail:
            return self._base
        return self._batch(rev).digest if self.tail < rev <= self.head else None

    def between(self, low: int, high: int) -> list[Batch]:
        """The batches of the revisions (low, high]. Raises LookupError if the ring does not have them."""
        if not self.tail <= low <= high <= self.head:
            raise LookupError(f"revisions {low} to {high} are not within {self.tail} to {self.head}")
        ring, skipped = self._ring, low - self.tail
        if high - low < 8 or skipped > len(ring) // 2:  # indexing a deque is fast near its ends only
            return [ring[index] for index in range(skipped, high - self.tail)]
        return list(islice(ring, skipped, high - self.tail))

    def age_after(self, rev: int, now: float) -> float:
        """The age in seconds of the first revision after `rev`; 0 at head. Where the ring has dropped that, it is older
        than what is said: the newest that was dropped."""
        if 0 < rev < self.tail:
            return max(0.0, now - self._tail_at)
        after = max(rev, self.tail) + 1
        return 0.0 if after > self.head else max(0.0, now - self._batch(after).at)

    def _batch(self, rev: int) -> Batch:
        return self._ring[rev - self.tail - 1]

    def merged(self, low: int, high: int) -> bytes:
        """A WatchResponse with one Delta from `low` to `high` (S9); all streams share its bytes."""
        if high - low == 1 and self.tail <= low < self.head:
            return self._batch(high).message
        message = self._merged.get((low, high))
        if message is None:
            message = encode(self.epoch, low, merge(self.between(low, high)))
            while len(self._merged) >= _MEMO:
                del self._merged[next(iter(self._merged))]
            self._merged[low, high] = message
        return message

    def causes(self, low: int, high: int) -> Causes:
        """The causes of (low, high], how many more there were, and when the first was emitted (Unix ns, 0: not known).

        Answers are kept, and the same objects for all: the Acks of a round ask for the same.
        """
        found = self._causes.get((low, high))
        if found is None:
            while len(self._causes) >= _RECENT:
                del self._causes[next(iter(self._causes))]
            found = self._causes[low, high] = self._causes_of(low, high)
        return found

    def _causes_of(self, low: int, high: int) -> Causes:
        batches = self.between(low, high) if self.holds(low) and high <= self.head else []
        causes = [cause for batch in batches for cause in batch.causes]
        kept = choose(causes)
        more = sum(batch.more_causes for batch in batches) + len(causes) - len(kept)
        return kept, more, batches[0].emitted_unix_nano if batches else 0


def stage(low: int, high: int) -> int:
    """The revision up to which the next message of a stream at `low` leads, on its way to `high`.

    A long way leads over multiples of STEPS. Streams that were cut off together, each at a revision of its own, so
    share all messages but their first ones.
    """
    if high - low <= DIRECT:
        return high
    step = next((step for step in STEPS if low % step), STEPS[-1])
    return min(high, low - low % step + step)
