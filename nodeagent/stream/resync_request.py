"""How this agent asks for what it lacks, and says what it has: by its digests, or by none, so that everything comes.

Owned by the session. A partial snapshot that does not fit, or does not lead to the replica's state, is followed by a
whole one: until that is taken in, no partial snapshot is asked for, so that the two cannot alternate without end. Pure.
"""

from __future__ import annotations

from collections.abc import Callable

from deltaplane.codec import MalformedError
from deltaplane.digest import BUCKETS, StateDigest
from deltaplane.names import shown
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.stream.events import Event, Report, Send
from nodeagent.stream.snapshot_assembler import SnapshotAssembler
from nodeagent.stream.validation import MisfitError

MAX_DETAIL = 500  # characters of a ResyncRequest
_OF_CONTENT = (pb.RESYNC_REASON_MALFORMED, pb.RESYNC_REASON_DIGEST_MISMATCH)


class ResyncRequester:
    """`whole`: only a whole snapshot will do. `asked` is called with the reason (as `Session` says) of each request."""

    def __init__(self, asked: Callable[[str], None]) -> None:
        self.whole = False
        self._asked = asked

    def ask(self, misfit: MisfitError, assembler: SnapshotAssembler | None, digest: StateDigest) -> list[Event]:
        """A request for what an agent with this digest lacks; `assembler`: the snapshot that was on its way, if any."""
        if assembler is not None and assembler.places is not None and misfit.reason in _OF_CONTENT:
            self.whole = True
            misfit = MisfitError(pb.RESYNC_REASON_PARTIAL, f"a partial snapshot failed: {misfit.detail}")
        self._asked(pb.ResyncReason.Name(misfit.reason).removeprefix("RESYNC_REASON_"))
        request = pb.ResyncRequest(reason=misfit.reason, detail=misfit.detail[:MAX_DETAIL])
        if not self.whole:
            request.bucket_digests.extend(digest.buckets)
        message = pb.WatchRequest(resync_request=request).SerializeToString()
        return [Report("PROTOCOL", f"asked for a snapshot: {misfit.detail}"), Send(message)]

    def answer(self, asked: pb.DigestRequest, digest: StateDigest) -> Send:
        """The digests that the replica asks for; none where only a whole snapshot will do. Raises `MalformedError`."""
        buckets = list(asked.buckets)
        if buckets != sorted(set(buckets)) or (buckets and buckets[-1] >= BUCKETS):
            raise MalformedError(
                f"a DigestRequest for buckets {shown(str(buckets[:8]))}: not ascending below {BUCKETS}"
            )
        answer = pb.Digests(number=asked.number)
        if not self.whole and buckets:
            answer.leaves.extend(digest.children(buckets))
        elif not self.whole:
            answer.buckets.extend(digest.buckets)
        return Send(pb.WatchRequest(digests=answer).SerializeToString())

    def taken(self, assembler: SnapshotAssembler) -> None:
        """A snapshot was taken in."""
        self.whole = self.whole and assembler.places is not None
