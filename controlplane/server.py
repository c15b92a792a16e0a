"""The gRPC edge: agents' streams, inspection, health and reflection on one port. Decides nothing about the protocol."""

from __future__ import annotations

import asyncio
import gc
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import ExitStack
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from controlplane.admission import Admission
from controlplane.aside import Aside
from controlplane.cluster import Cluster
from controlplane.facts import Following
from controlplane.health_listener import HealthListener
from controlplane.identity.door import Door
from controlplane.identity.guard import Guard
from controlplane.identity.listener import Listener
from controlplane.inspection.everywhere import wait_everywhere
from controlplane.inspection.here import Here
from controlplane.inspection.service import Inspection
from controlplane.inspection.waits import Waits
from controlplane.leaving import CLOSE_SECONDS, send_away, send_home, send_on
from controlplane.nodes import Nodes
from controlplane.notices import Notices
from controlplane.pace import Pace
from controlplane.peers import Dial, Peers, Plain
from controlplane.progress import Progress
from controlplane.reached import Reached
from controlplane.readiness import Readiness
from controlplane.rebalance import Rebalance
from controlplane.replica_places import Alone, Finder
from controlplane.session import Limits
from controlplane.streams import Streams
from controlplane.trace import Tracing
from deltaplane import supervise
from deltaplane.logs import event
from deltaplane.v1 import delta_pb2 as pb
from deltaplane.v1 import inspection_pb2, inspection_pb2_grpc
from deltaplane.v1.inspection_pb2 import WaitAppliedRequest, WaitAppliedResponse

log = logging.getLogger(__name__)

STREAM = pb.DESCRIPTOR.services_by_name["DeltaService"].full_name
INSPECTION = inspection_pb2.DESCRIPTOR.services_by_name["InspectionService"].full_name
LOOK_SECONDS = 1.0  # between two looks at what is due
LIVENESS = "liveness"  # the health service's name for liveness probes: serving as long as the loop answers
OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.so_reuseport", 0),  # a second server on the port is an error, not load balancing
    ("grpc.http2.bdp_probe", 0),  # else gRPC answers every Ack by a ping, which wakes the agent again
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),  # becomes TCP_USER_TIMEOUT: until the peer's kernel confirms bytes
    ("grpc.http2.ping_timeout_ms", 10_000),  # until the peer itself answers; the default is a minute
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.server_handshake_timeout_ms", 10_000),  # two minutes where this is not said
    ("grpc.max_receive_message_length", 128 * 1024),
    ("grpc.max_allowed_incoming_connections", 16_384),  # an agent has one
)


class Server:
    """`start` binds the port, `run` keeps the health status, `stop` sends the agents away and ends the streams.

    `me`: HOST:PORT of this replica among those that `finder` finds; empty: agents stay where they are.
    """

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
        listener: Listener | None = None,
        door: Door | None = None,
        health_listen: str = "",
        finder: Finder | None = None,
        dial: Dial | None = None,
        me: str = "",
    ) -> None:
        self.nodes = Nodes()
        self._listener = listener or Listener(listen)
        self._door = door or Door()
        self._cluster = cluster
        self._server_id = secrets.token_hex(4)
        self.aside = Aside()
        self._here = Here(self._server_id, cluster, self.nodes, sources, no_agents=lambda: self.aside.reason)
        self.waits = Waits(self._here)
        self._peers = Peers(finder or Alone(), dial or Plain(), self._server_id, lambda: cluster.cluster_id)
        self.reached = Reached(self._peers, me) if me else None  # whom agents can be sent to; `app` runs it
        self._rebalance = Rebalance("" if self.reached is None else self.reached.me)
        self.progress = Progress(tracing)
        self._pace, self._paced = Pace(cluster.log), ExitStack()
        self._health = health.aio.HealthServicer()
        self._stopping = self._serving = self._opened = False
        self._readiness, self._prompt = Readiness(), True
        self._streams = Streams(
            self._server_id,
            cluster,
            self.nodes,
            admission=Admission(self._door, cluster, self.nodes, lambda: self.aside.reason),
            progress=self.progress,
            waits=self.waits,
            pace=self._pace,
            watch=watch or supervise.Watch(),
            ready=lambda: cluster.ready and not self._stopping,
            limits=limits,
            notices=notices,
        )
        self._server = grpc.aio.server(interceptors=(Guard(self._door.inspector, f"/{STREAM}/"),), options=OPTIONS)
        self._probes = HealthListener(health_listen, self._health)
        self._register()

    def _register(self) -> None:
        # Both ways are bytes: deltas are serialised once for all streams, and a stream decodes what it reads.
        watch: Any = grpc.stream_stream_rpc_method_handler(self._streams.serve)
        handlers = (grpc.method_handlers_generic_handler(STREAM, {"Watch": watch}),)
        self._server.add_generic_rpc_handlers(handlers)
        self.inspection = Inspection(self._here, self.progress, self.waits, self._peers, self._door.refused)
        inspection_pb2_grpc.add_InspectionServiceServicer_to_server(self.inspection, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (STREAM, INSPECTION, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    def wait_applied(self, request: WaitAppliedRequest) -> AsyncGenerator[WaitAppliedResponse, None]:
        """WaitApplied for a part of this process, of the whole cluster. Raises as `everywhere.wait_everywhere`."""
        return wait_everywhere(self._here, self.waits, self._peers, request, "this replica")

    async def start(self) -> None:
        """Binds the port, or leaves that to `run` where a certificate has to be made first. Raises
        `ControlPlaneError` when it cannot."""
        if self._listener.ready:
            self._listener.bind(self._server)
        await self._set_health(serving=False)
        await self._health.set(LIVENESS, health_pb2.HealthCheckResponse.SERVING)
        await self._probes.start()
        if self._listener.ready:
            await self._open()

    async def _open(self) -> None:
        self._opened = True
        await self._server.start()
        self._paced.enter_context(self._pace.pacing(self._cluster.waking))

    async def run(self) -> None:
        """Sets SERVING when the state is complete; streams are accepted from then on (S1). Runs until cancelled."""
        if not self._opened:
            await self._listener.wait()
            self._listener.bind(self._server)
            await self._open()
        await self._cluster.whole.wait()
        gc.collect()
        gc.freeze()  # the first state is long-lived: later collections need not walk it
        await self._set_health(serving=True)
        event(log, logging.INFO, "serving", objects=len(self._cluster.store), rev=self._cluster.log.head)
        due = time.monotonic()
        while True:
            now = time.monotonic()
            self._spread(now)
            await self._look_at_lag(due, now)
            self._cluster.log.expire(now)
            self._cluster.heal()
            self._listener.look()
            self.nodes.expire(now, self._cluster.has_node)
            self.waits.moved()
            due = time.monotonic() + LOOK_SECONDS
            await asyncio.sleep(LOOK_SECONDS)

    async def _look_at_lag(self, due: float, now: float) -> None:
        ready = self._readiness.ready(due, now)
        if ready != self._prompt:
            event(log, logging.WARNING, "ready" if ready else "not ready", loop_lag=f"{self._readiness.lag:.1f} s")
        self._prompt, serving = ready, ready and not self.aside.reason and not self._listener.ended()
        if serving != self._serving:
            await self._set_health(serving=serving)

    def _spread(self, now: float) -> None:
        """Sends agents to other replicas: all where this one does not follow its source and others do, else those that
        it has beyond its share."""
        if self.reached is None:
            return
        better = self.reached.better(self._cluster.nodes, self._here.connected())
        told = self.aside.look(now, self._here.unfollowed(), better)
        if told is not None:
            text = "takes no agents" if self.aside.reason else "takes agents again"
            event(log, logging.WARNING, text, reason=told, replicas=",".join(sorted(better)))
        if self.aside.reason:
            send_on(self.nodes, better)
        else:
            send_home(self._rebalance, self.reached, self.nodes, self._cluster.nodes, now)

    async def _set_health(self, *, serving: bool) -> None:
        self._serving = serving
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", STREAM, INSPECTION):
            await self._health.set(name, status)

    async def stop(self) -> None:
        """Tells probes and agents, waits for the streams to end, and frees the port."""
        self._stopping = True
        await self._set_health(serving=False)
        await send_away(self.nodes)
        self.waits.stop()
        await self._server.stop(CLOSE_SECONDS)
        await self._probes.stop()
        await self._peers.close()
        self._paced.close()
