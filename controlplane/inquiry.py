"""What one stream knows of its agent's digests, and what it asks the agent for: only what it needs.

First the digests of the 256 buckets, unless the agent has sent them; then those of the leaves of each bucket that
differs. The agent takes in nothing while it waits for a snapshot, so that its answers are of one state. A bucket that
did not differ when the leaves were asked for has the replica's leaves of that moment. Pure; `controlplane.catchup` owns
it.
"""

from __future__ import annotations

from deltaplane.digest import BUCKET, BUCKETS, CHILDREN, LEAF, StateDigest, differing, packed
from deltaplane.v1 import delta_pb2 as pb


class Inquiry:
    """`held`: the agent's digests as `deltaplane.digest.packed` has them, of buckets or of leaves; empty: not known."""

    def __init__(self, digest: StateDigest) -> None:
        self.held = b""
        self._digest = digest
        self._more = False  # there may be something to ask
        self._number = 0  # of the last question
        self._open = False  # it awaits its answer
        self._asked: tuple[int, ...] = ()  # the buckets that it names
        self._base = b""  # the replica's leaves when it was asked

    def begin(self, held: bytes, *, asks: bool) -> None:
        """A snapshot is needed. `held`: the bucket digests that the agent has sent; `asks`: it can be asked."""
        self.end()
        self.held, self._more = held, asks

    def end(self) -> None:
        """No snapshot is needed any more; an answer that is still on its way says nothing."""
        self.held = self._base = b""
        self._more = self._open = False

    def question(self) -> pb.DigestRequest | None:
        """The next question; None where there is nothing to ask."""
        if not self._more:
            return None
        self._asked = tuple(sorted(differing(self.held, self._digest.at(BUCKET)))) if self.held else ()
        if self.held:
            self._more = False
            self._base = self._digest.at(LEAF)
            if not self._asked:
                return None
        self._number, self._open = self._number + 1, True
        return pb.DigestRequest(number=self._number, buckets=self._asked)

    def awaits(self, digests: pb.Digests) -> bool:
        """Whether this is the answer to the last question."""
        return self._open and digests.number == self._number

    def take(self, digests: pb.Digests) -> None:
        """The answer. One with another number of digests than was asked for says nothing."""
        self._open = False
        if not self._asked and len(digests.buckets) == BUCKETS:
            self.held = packed(digests.buckets, BUCKET)
        elif self._asked and len(digests.leaves) == len(self._asked) * CHILDREN:
            self.held = self._joined(packed(digests.leaves, LEAF))
        else:
            self.unanswered()

    def unanswered(self) -> None:
        """There is no answer: the agent gets the whole state."""
        self.end()

    def _joined(self, leaves: bytes) -> bytes:
        """All leaves of the agent: the replica's, and in the buckets that were asked for the agent's own."""
        found, each = bytearray(self._base), LEAF.size // BUCKETS
        for index, bucket in enumerate(self._asked):
            found[bucket * each : (bucket + 1) * each] = leaves[index * each : (index + 1) * each]
        self._base = b""
        return bytes(found)
