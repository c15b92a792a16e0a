"""How this agent asks for what it lacks: by its bucket digests, or for everything where a partial snapshot failed.

Owned by the session. A partial snapshot that does not fit, or does not lead to the replica's state, is followed by a
whole one: until that is taken in, nothing partial is asked for, so that the two cannot take turns for ever. Pure.
"""

from __future__ import annotations

from collections.abc import Callable

from deltaplane.digest import StateDigest
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.stream.events import Event, Report, Send
from nodeagent.stream.snapshot_assembler import Collector
from nodeagent.stream.validation import MisfitError

MAX_DETAIL = 500  # characters of a ResyncRequest
_OF_CONTENT = (pb.RESYNC_REASON_MALFORMED, pb.RESYNC_REASON_DIGEST_MISMATCH)


class Asking:
    """`whole`: only a whole snapshot will do. `asked` is called with the reason (as `Session` says) of each request."""

    def __init__(self, asked: Callable[[str], None]) -> None:
        self.whole = False
        self._asked = asked

    def ask(self, misfit: MisfitError, collector: Collector | None, digest: StateDigest) -> list[Event]:
        """A request for what an agent with this digest lacks; `collector`: the snapshot that was on its way, if any."""
        if collector is not None and collector.buckets is not None and misfit.reason in _OF_CONTENT:
            self.whole = True
            misfit = MisfitError(pb.RESYNC_REASON_PARTIAL, f"a partial snapshot failed: {misfit.detail}")
        self._asked(pb.ResyncReason.Name(misfit.reason).removeprefix("RESYNC_REASON_"))
        request = pb.ResyncRequest(reason=misfit.reason, detail=misfit.detail[:MAX_DETAIL])
        if not self.whole:
            request.bucket_digests.extend(digest.buckets)
        message = pb.WatchRequest(resync_request=request).SerializeToString()
        return [Report("PROTOCOL", f"asked for a snapshot: {misfit.detail}"), Send(message)]

    def taken(self, collector: Collector) -> None:
        """A snapshot was taken in."""
        self.whole = self.whole and collector.buckets is not None
