"""A replica in this process, with a store, nodes that come when a test says so, and the servicer in front."""

from __future__ import annotations

import asyncio
from math import inf
from typing import Any

import grpc

from controlplane.agent_nodes import AgentNodes
from controlplane.cluster import Cluster
from controlplane.facts import Fact, Following
from controlplane.inspection.here import Here
from controlplane.inspection.service import Inspection
from controlplane.inspection.waits import Waits
from controlplane.log import Log
from controlplane.nodes import Nodes
from controlplane.peers import Peers, Plain
from controlplane.progress import Progress
from controlplane.replica_places import Alone
from controlplane.report import Report
from controlplane.session import Session
from controlplane.snapshot import Snapshots
from controlplane.trace import NoTracing
from deltaplane.model import Kind
from deltaplane.v1 import delta_pb2 as pb
from deltaplane.v1 import inspection_pb2 as inspection
from deltaplane.v1 import objects_pb2
from tests.sessions import objects
from tests.sessions.link import Noted

HELLO = pb.Hello(
    protocol_min=1, protocol_max=1, agent_version="1.2", proxy_mode="iptables", proxy_mode_asked="ipvs",
    proxy_mode_reason="no ip_vs",
)  # fmt: skip


class Aborted(Exception):
    pass


class Context:
    """As much of a call as the servicer uses."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.status: grpc.StatusCode | None = None

    def peer(self) -> str:
        return "ipv4:10.0.0.9:1"

    async def send_initial_metadata(self, _: object) -> None:
        self.began.set()

    async def abort(self, status: grpc.StatusCode, text: str) -> None:
        self.status = status
        raise Aborted(text)


class Asked:
    """A replica that has a Service and a slice, and nodes that come when the test says so."""

    def __init__(self, agent_nodes: AgentNodes | None = None) -> None:
        self.report = Report()
        self.cluster = Cluster(Log(), NoTracing(), self.report, agent_nodes=agent_nodes)
        self.nodes = Nodes()
        self.progress, self.sources = Progress(NoTracing()), list[Following]()
        slice_ = objects.slice_of(1, {1: 3})
        self.cluster.update([Fact(objects.service_key(1), objects.service(1)), Fact(slice_.key, slice_)])
        for kind in Kind:
            self.cluster.synced(kind)
        self.here = Here("s1", self.cluster, self.nodes, lambda: self.sources)
        self.waits = Waits(self.here)
        self.peers = Peers(Alone(), Plain(), "s1")
        self.inspection = Inspection(self.here, self.progress, self.waits, self.peers)
        self.context: Any = Context()

    def node(self, name: str) -> Session:
        store, log = self.cluster.store, self.cluster.log
        session = Noted(self.nodes, store, log, Snapshots(store, log), peer=f"ipv4:10.0.0.1:{len(self.nodes)}")
        hello = pb.Hello(node_name=name)
        hello.MergeFrom(HELLO)
        session.on_message(pb.WatchRequest(hello=hello), 0.0)
        while session.next_message(0.0) is not None:
            pass
        return session

    def forget(self) -> None:
        """The log lets go of everything, and so does what keeps earlier forms."""
        log = self.cluster.log
        log.expire(inf)
        log.earlier.clear(log.tail)

    def hastened(self) -> bool:
        """Whether the next change asks for its Ack at once."""
        log, store = self.cluster.log, self.cluster.store
        number = store.count(Kind.SERVICE) + 1
        self.cluster.update([Fact(objects.service_key(number), objects.service(number))])
        return pb.WatchResponse.FromString(log.merged(log.head - 1, log.head)).delta.ack_now

    async def status(self) -> inspection.GetStatusResponse:
        return await self.inspection.GetStatus(inspection.GetStatusRequest(), self.context)

    async def listed(self) -> inspection.ListNodesResponse:
        return await self.inspection.ListNodes(inspection.ListNodesRequest(), self.context)

    async def release(self, name: str) -> list[str]:
        request = inspection.ReleaseBrakeRequest(node_name=name)
        return list((await self.inspection.ReleaseBrake(request, self.context)).nodes)


def ack(session: Session, **fields: Any) -> None:
    session.on_message(pb.WatchRequest(ack=pb.Ack(**fields)), 0.0)


def failures(number: int) -> list[pb.ObjectFailure]:
    keys = [objects_pb2.ObjectKey(kind=objects_pb2.KIND_SERVICE, namespace="a", name=f"{n}") for n in range(number)]
    return [pb.ObjectFailure(key=key, code=pb.ERROR_CODE_KERNEL_REJECTED) for key in keys]
