"""The gRPC edge: agents' streams, inspection, health and reflection on one port. Decides nothing about the protocol."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from controlplane.cluster import Cluster
from controlplane.errors import ControlPlaneError
from controlplane.facts import Following
from controlplane.inflight import Applied
from controlplane.inspect import Inspection
from controlplane.nodes import Nodes
from controlplane.notices import Notice, Notices, braked, fallback
from controlplane.progress import Progress
from controlplane.session import Limits, Session
from controlplane.snapshot import Snapshots
from controlplane.snapshot_builder import SnapshotBuilder
from controlplane.stream_events import Event
from controlplane.trace import Tracing
from deltaplane import supervise
from deltaplane.flags import listening
from deltaplane.logs import event
from deltaplane.v1 import delta_pb2 as pb
from deltaplane.v1 import inspection_pb2, inspection_pb2_grpc

log = logging.getLogger(__name__)

STREAM = pb.DESCRIPTOR.services_by_name["DeltaService"].full_name
INSPECTION = inspection_pb2.DESCRIPTOR.services_by_name["InspectionService"].full_name
GRACE_SECONDS = 2.0
WAIT_SECONDS = 30.0  # no wait is without a limit, though every deadline is sooner
OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.so_reuseport", 0),  # a second server on the port is a mistake to be told, not load balancing
    ("grpc.http2.bdp_probe", 0),  # else every Ack is answered by a ping that wakes the agent once more
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),  # becomes TCP_USER_TIMEOUT: until the peer's kernel confirms bytes
    ("grpc.http2.ping_timeout_ms", 10_000),  # until the peer itself answers; a minute where this is not said
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.max_receive_message_length", 128 * 1024),
)


class Server:
    """`start` binds the port, `run` follows the state for health, `stop` tells the agents to go and ends streams."""

    def __init__(
        self,
        listen: str,
        cluster: Cluster,
        tracing: Tracing,
        notices: Notices | None = None,
        *,
        watch: supervise.Watch | None = None,
        limits: Limits | None = None,
        sources: Callable[[], Iterable[Following]] = tuple,
    ) -> None:
        self.nodes = Nodes()
        self._sources = sources
        self._watch_over = watch or supervise.Watch()
        self._limits = limits
        self._listen = listen
        self._notices = notices
        self._cluster = cluster
        self._server_id = secrets.token_hex(4)
        self._snapshots = Snapshots(cluster.store, cluster.log, SnapshotBuilder())
        self._progress = Progress(tracing)
        self._health = health.aio.HealthServicer()
        self._stopping = False
        self._server = grpc.aio.server(options=OPTIONS)
        self._register()

    def _register(self) -> None:
        # Deltas are serialised once for all streams, so responses pass as bytes.
        watch: Any = grpc.stream_stream_rpc_method_handler(
            self._watch, request_deserializer=pb.WatchRequest.FromString, response_serializer=None
        )
        handlers = (grpc.method_handlers_generic_handler(STREAM, {"Watch": watch}),)
        self._server.add_generic_rpc_handlers(handlers)
        inspection = Inspection(self._server_id, self._cluster, self.nodes, self._progress, self._sources)
        inspection_pb2_grpc.add_InspectionServiceServicer_to_server(inspection, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (STREAM, INSPECTION, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    async def start(self) -> None:
        """Binds the port. Raises `ControlPlaneError` when it cannot."""
        try:
            bound = self._server.add_insecure_port(listening(self._listen))
        except RuntimeError as error:
            raise ControlPlaneError(self._cannot_bind()) from error
        if not bound:
            raise ControlPlaneError(self._cannot_bind())
        await self._set_health(serving=False)
        await self._server.start()

    def _cannot_bind(self) -> str:
        return f"--listen={self._listen}: cannot bind; is the port taken, or the address not this machine's?"

    async def run(self) -> None:
        """Says SERVING once the whole state is known; agents are taken from then on (S1)."""
        await self._cluster.whole.wait()
        await self._set_health(serving=True)
        event(log, logging.INFO, "serving", objects=len(self._cluster.store), rev=self._cluster.log.head)
        while True:
            now = time.monotonic()
            self._cluster.log.expire(now)
            self._cluster.heal()
            self.nodes.expire(now, self._cluster.has_node)
            await asyncio.sleep(1.0)

    async def _set_health(self, *, serving: bool) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", STREAM, INSPECTION):
            await self._health.set(name, status)

    async def stop(self) -> None:
        """Tells probes and agents, lets the streams end, and frees the port."""
        self._stopping = True
        await self._set_health(serving=False)
        for session in self.nodes:
            if session.closed is None:
                session.go_away("this replica stops", retry_after_ms=250)
                session.close("UNAVAILABLE", "this replica stops")
        await self._server.stop(GRACE_SECONDS)

    # ------------------------------------------------------------ one stream

    async def _watch(
        self, requests: AsyncIterator[pb.WatchRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        woken = asyncio.Event()
        session = Session(
            self._cluster.store,
            self._cluster.log,
            self._snapshots,
            tally=self.nodes.tally,
            server_id=self._server_id,
            cluster_id=lambda: self._cluster.cluster_id,
            limits=self._limits,
            ready=lambda: self._cluster.ready and not self._stopping,
            wake=woken.set,
            peer=context.peer(),
        )

        def news() -> None:
            if session.node_name:  # before its Hello nothing is due to it
                woken.set()

        reader = asyncio.create_task(self._read(session, requests, woken))
        broken = False
        try:
            with self._cluster.waking(news):
                await self._write(session, context, woken)
        except (grpc.aio.BaseError, grpc.RpcError, asyncio.InvalidStateError) as error:
            broken = True
            session.close("UNAVAILABLE", f"the stream broke: {error}")
        finally:
            session.close("CANCELLED", "the agent went away")
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            self.nodes.departed(session, time.monotonic())
            self._said_goodbye(session)
        closed = session.closed
        if closed is not None and closed.status != "OK" and not broken:
            with suppress(grpc.aio.InternalError, asyncio.InvalidStateError):  # an agent that has gone needs no status
                await context.abort(grpc.StatusCode[closed.status], closed.detail)

    async def _read(self, session: Session, requests: AsyncIterator[pb.WatchRequest], woken: asyncio.Event) -> None:
        reason = "the agent closed the stream"
        try:
            async for request in requests:
                known = session.node_name
                held = session.brake is not None
                happened = session.on_message(request, time.monotonic())
                self._act(session, happened)
                if session.node_name != known:
                    event(
                        log, logging.INFO, "agent connected", node=session.node_name, peer=session.peer,
                        mode=session.hello.proxy_mode, version=session.hello.agent_version,
                    )  # fmt: skip
                    self._introduced(session.hello)
                if session.brake is not None and not held:
                    self._tell(braked(session.hello, session.brake))
                woken.set()
        except (grpc.aio.BaseError, grpc.RpcError, asyncio.InvalidStateError) as error:
            reason = f"the stream broke: {error}"
        except Exception as error:  # noqa: BLE001 - ends this stream alone; counted and logged with its traceback
            self._watch_over.failed("a stream's reader", error)
            session.close("INTERNAL", "this replica could not handle a message; its log says more")
        finally:
            session.close("CANCELLED", reason)

    def _act(self, session: Session, happened: Iterable[Event]) -> None:
        for one in happened:
            self.nodes.note(session, one)
            if isinstance(one, Applied):
                self._progress.applied(session, one, time.time_ns(), nodes=len(self.nodes))

    def _introduced(self, hello: pb.Hello) -> None:
        """Says which agent runs in another mode than it was told to."""
        notice = fallback(hello)
        if notice is not None:
            self._tell(notice)

    def _tell(self, notice: Notice) -> None:
        event(log, logging.WARNING, notice.reason, node=notice.node, text=notice.text)
        if self._notices is not None:
            self._notices.tell(notice)

    async def _write(self, session: Session, context: grpc.aio.ServicerContext[Any, Any], woken: asyncio.Event) -> None:
        """Sends what the stream lacks, then waits for a new revision, a wake-up, or the session's deadline."""
        while True:
            woken.clear()
            while (message := session.next_message(time.monotonic(), time.time_ns())) is not None:
                self.nodes.sent_bytes += len(message)
                await context.write(message)
            if session.closed is not None:
                return
            timeout = min(WAIT_SECONDS, max(0.001, session.deadline() - time.monotonic()))
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await woken.wait()

    def _said_goodbye(self, session: Session) -> None:
        if session.node_name and session.closed is not None:
            event(log, logging.INFO, "agent left", node=session.node_name, reason=session.closed.detail)
