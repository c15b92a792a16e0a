"""One agent's stream on gRPC: a reader and a writer around its session, and what is made of what the session says.

Called by `server`, which has the port. Decides nothing about the protocol: `session` does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from controlplane.admission import Admission, Admitted, Context
from controlplane.cluster import Cluster
from controlplane.inflight import Applied
from controlplane.inspection.waits import Waits
from controlplane.nodes import Nodes
from controlplane.notices import Notice, Notices, braked, fallback
from controlplane.pace import Pace
from controlplane.progress import Progress
from controlplane.resume import MAX_REQUEST_BYTES
from controlplane.session import Closed, Limits, Session
from controlplane.snapshot import Snapshots
from controlplane.snapshot_builder import SnapshotBuilder
from controlplane.stream_ends import without_goodbye
from controlplane.stream_events import Braked, Event, Introduced
from controlplane.writing import Turns, Writer
from deltaplane import moments, supervise
from deltaplane.logs import event
from deltaplane.v1 import delta_pb2 as pb

log = logging.getLogger(__name__)

WRITE_SECONDS = 60.0  # in which an agent takes one message, of a few hundred KiB at most
WAIT_SECONDS = 30.0  # an upper limit for each wait; every deadline of a session is sooner


class Streams:
    """All streams of this replica. `ready`: whether new agents are welcome; `server_id`: what Welcome says."""

    def __init__(
        self,
        server_id: str,
        cluster: Cluster,
        nodes: Nodes,
        *,
        admission: Admission,
        progress: Progress,
        waits: Waits,
        pace: Pace,
        watch: supervise.Watch,
        ready: Callable[[], bool],
        limits: Limits | None = None,
        notices: Notices | None = None,
    ) -> None:
        self._server_id, self._cluster, self._nodes, self._admission = server_id, cluster, nodes, admission
        self._progress, self._waits, self._pace, self._watch_over = progress, waits, pace, watch
        self._ready, self._limits, self._notices = ready, limits, notices
        self._snapshots = Snapshots(cluster.store, cluster.log, SnapshotBuilder())
        self._turns = Turns()

    async def serve(self, requests: AsyncIterator[bytes], context: Context) -> None:
        """DeltaService/Watch: returns, or aborts the call, when the stream is over."""
        async with self._admission.stream(context, requests) as admitted:
            closed = await self._stream(admitted, context)
        del admitted
        if closed is None or closed.status == "OK":
            return
        try:
            await context.abort(grpc.StatusCode[closed.status], closed.detail)
        except (grpc.aio.InternalError, asyncio.InvalidStateError):
            return  # the agent may be gone
        except grpc.aio.AbortError as error:
            # gRPC's state of the call keeps the error, the error the frames that it came through, and they the call.
            del context, requests
            raise error.with_traceback(None) from None

    def _number(self) -> int:
        """Streams that are open, or will be: after a start they all come at once. At least two replicas share them."""
        return max(self._pace.streams, self._cluster.nodes // 2)

    async def _stream(self, admitted: Admitted, context: Context) -> Closed | None:
        """Runs the stream and returns why it has ended."""
        session = Session(
            self._cluster.store,
            self._cluster.log,
            self._snapshots,
            server_id=self._server_id,
            cluster_id=lambda: self._cluster.cluster_id,
            limits=self._limits,
            ready=self._ready,
            streams=self._number,
            listens=lambda: self._progress.listens,
            peer=context.peer(),
        )
        writer = Writer(Sending(session, self._sent), context.write, self._turns, WRITE_SECONDS)
        session.wakes(writer.wake)

        def news() -> None:
            if session.node_name:  # before its Hello it gets nothing
                writer.wake()

        reader = asyncio.create_task(self._read(session, admitted, context))
        broken = False
        try:
            with self._pace.waking(news):
                writer.wake()
                await writer.ended
        except (grpc.aio.BaseError, grpc.RpcError, asyncio.InvalidStateError) as error:
            broken = True
            session.close("UNAVAILABLE", f"the stream broke: {error}")
        except TimeoutError:
            broken = True
            admitted.stuck(session, WRITE_SECONDS)
        finally:
            session.close("CANCELLED", _without_goodbye(session))
            writer.close()
            reader.cancel()
            self._nodes.departed(session, time.monotonic(), kept=self._cluster.has_node(session.node_name))
            self._said_goodbye(session)
            self._waits.moved()
            await asyncio.gather(reader, return_exceptions=True)  # last: gRPC may cancel this as well
        if broken:  # a write has not ended, so no status can be sent; gRPC drops the call of who is cancelled
            raise asyncio.CancelledError
        if session.closed is not None:
            await admitted.ended(session, session.closed)
        return session.closed

    async def _read(self, session: Session, admitted: Admitted, context: Context) -> None:
        reason = ""
        try:
            while (data := await context.read()) is not grpc.aio.EOF:
                if session.closed is None:  # what is read after that is read so that the client learns why
                    self._take(data, session, admitted)
                if wait := admitted.wait(session, len(data)):
                    await asyncio.sleep(wait)
        except (grpc.aio.BaseError, grpc.RpcError, asyncio.InvalidStateError) as error:
            reason = f"the stream broke: {error}"
        except Exception as error:  # noqa: BLE001 - ends this stream alone; counted and logged with its traceback
            self._watch_over.failed("a stream's reader", error)
            session.close("INTERNAL", "this replica could not handle a message; its log says more")
        finally:
            session.close("CANCELLED", reason or _without_goodbye(session))

    def _take(self, data: bytes, session: Session, admitted: Admitted) -> None:
        """One message of the agent."""
        if len(data) > MAX_REQUEST_BYTES:
            session.close("INVALID_ARGUMENT", f"a message of {len(data)} bytes: the limit is {MAX_REQUEST_BYTES}")
            return
        try:
            request = pb.WatchRequest.FromString(data)
        except DecodeError as error:
            session.close("INVALID_ARGUMENT", f"this is no WatchRequest: {error}")
            return
        if request.HasField("hello") and (notice := admitted.hello(session, request.hello)) is not None:
            self._tell(notice)
        if happened := session.on_message(request, time.monotonic()):
            self._act(session, happened)
        self._waits.moved()
        if session.pending:  # most Acks ask for nothing
            session.wake()

    def _act(self, session: Session, happened: Iterable[Event]) -> None:
        for one in happened:
            self._nodes.note(session, one)
            match one:
                case Introduced():
                    self._introduced(session.hello, session.peer)
                case Braked(brake):
                    self._tell(braked(session.hello, brake))
                case Applied():
                    self._progress.applied(session, one, moments.unix_nano(), nodes=len(self._nodes))

    def _introduced(self, hello: pb.Hello, peer: str) -> None:
        """Logs a new agent, and tells the operator if it runs in another mode than configured."""
        event(
            log, logging.INFO, "agent connected", node=hello.node_name, peer=peer,
            mode=hello.proxy_mode, version=hello.agent_version,
        )  # fmt: skip
        notice = fallback(hello)
        if notice is not None:
            self._tell(notice)

    def _tell(self, notice: Notice) -> None:
        event(log, logging.WARNING, notice.reason, node=notice.node, text=notice.text)
        if self._notices is not None and self._admission.tells(notice):
            self._notices.tell(notice)

    def _sent(self, session: Session, message: bytes | None) -> None:
        """The session has decided what comes next."""
        if events := session.happened():
            self._act(session, events)
        if message is not None:
            self._nodes.sent_bytes += len(message)
            self._nodes.sent_messages += 1

    def _said_goodbye(self, session: Session) -> None:
        if session.node_name and session.closed is not None:
            event(log, logging.INFO, "agent left", node=session.node_name, reason=session.closed.detail)


def _without_goodbye(session: Session) -> str:
    return without_goodbye(session.heard_at, session.sent_rev, session.acked, time.monotonic())


class Sending:
    """A session as its writer sees it. `sent` is told of each answer."""

    __slots__ = ("_sent", "_session")

    def __init__(self, session: Session, sent: Callable[[Session, bytes | None], None]) -> None:
        self._session, self._sent = session, sent

    def next(self, now: float) -> bytes | None:
        """The next message; None: there is nothing to send now."""
        message = self._session.next_message(now, moments.unix_nano())
        self._sent(self._session, message)
        return message

    @property
    def over(self) -> bool:
        """Whether the session is closed."""
        return self._session.closed is not None

    def deadline(self) -> float:
        """When to look again even if nothing happens."""
        return min(time.monotonic() + WAIT_SECONDS, self._session.deadline())
