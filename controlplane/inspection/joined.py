"""Answers about nodes for the whole cluster: this replica's, joined with those of its peers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from controlplane.inspection.here import Here
from controlplane.inspection.objects import Unknown
from controlplane.peers import Asked, Peers
from deltaplane.v1 import inspection_pb2 as pb

MOST_FAILED = 10_000  # of one node, which an Ack bounds anyway
_OFF = pb.NODE_STATE_DISCONNECTED


class Owner(Struct, frozen=True):
    """Who answers best about a node. `address` None: this replica itself. `silent`: those that may know more."""

    address: str | None = None
    silent: tuple[str, ...] = ()


class Joined:
    """Asks peers only where the question does not say this_replica."""

    def __init__(self, here: Here, peers: Peers) -> None:
        self._here, self._peers = here, peers

    async def ask(self, method: str, request: Any) -> list[Asked]:
        """What the peers say; nobody where only this replica is asked."""
        if request.this_replica:
            return []
        asked = type(request)()
        asked.CopyFrom(request)
        asked.this_replica = True
        return await self._peers.ask(method, asked)

    def replicas(self, asked: Iterable[Asked]) -> list[pb.ReplicaStatus]:
        """This replica and those that were asked."""
        return [self._here.status(), *(each.status for each in asked)]

    async def status(self, request: pb.GetStatusRequest, answer: pb.GetStatusResponse) -> None:
        """Adds the peers."""
        asked = await self.ask("GetStatus", request)
        answer.replicas.extend(self.replicas(asked))

    async def nodes(self, request: pb.ListNodesRequest) -> pb.ListNodesResponse:
        """All nodes by name; of one that several replicas know, the status of its open or newest stream."""
        asked = await self.ask("ListNodes", request)
        mine = [self._here.node_status(session) for session in self._here.nodes if session.node_name]
        theirs = (status for each in asked if each.answer is not None for status in each.answer.nodes)
        best: dict[str, pb.NodeStatus] = {}
        for status in (*mine, *theirs):
            best[status.node_name] = newer(best.get(status.node_name), status)
        for status in best.values():
            doubt(status, asked)
        answer = pb.ListNodesResponse(head_rev=self._here.head, nodes=[best[name] for name in sorted(best)])
        answer.replicas.extend(self.replicas(asked))
        answer.without_agent.extend(sorted(name for name in self._here.nodes_of_cluster() if name not in best))
        for name in answer.without_agent:
            if missing := self._here.missing_labels(name):
                answer.without_labels.add(node_name=name, missing_labels=missing)
        return answer

    async def node(self, request: pb.GetNodeRequest) -> pb.GetNodeResponse:
        """One node, by the replica that knows its newest stream."""
        asked = await self.ask("GetNode", request)
        answer = self.mine(request.node_name)
        for each in asked:
            if each.answer is None or not each.answer.HasField("status"):
                continue
            if not answer.HasField("status") or newer(answer.status, each.answer.status) is each.answer.status:
                answer.status.CopyFrom(each.answer.status)
                answer.hello.CopyFrom(each.answer.hello)
        if answer.HasField("status"):
            doubt(answer.status, asked)
        else:
            answer.missing_labels.extend(self._here.missing_labels(request.node_name))
        answer.replicas.extend(self.replicas(asked))
        return answer

    def mine(self, name: str) -> pb.GetNodeResponse:
        """What this replica knows of the node's agent."""
        answer, session = pb.GetNodeResponse(), self._here.session(name)
        if session is not None:
            answer.status.CopyFrom(self._here.node_status(session, shown=MOST_FAILED))
            answer.hello.CopyFrom(session.hello)
            answer.hello.ClearField("resume")
        return answer

    async def known(self, name: str) -> None:
        """Raises `Unknown` where no replica that answers knows an agent of the node."""
        found = await self.node(pb.GetNodeRequest(node_name=name))
        if not found.HasField("status"):
            silent = [each.address for each in found.replicas if each.error]
            text = f"node {name} has no agent at any replica: see ListNodes"
            raise Unknown(f"{text}; {', '.join(silent)} did not answer" if silent else text)

    async def owner(self, name: str) -> Owner:
        """Which replica has the node's newest stream. One that has it open, and up to date, asks nobody."""
        session = self._here.session(name)
        if session is not None and session.closed is None and session.applied_rev >= self._here.head:
            return Owner()
        asked = await self._peers.ask("GetNode", pb.GetNodeRequest(node_name=name, this_replica=True))
        best, address = None if session is None else self._here.node_status(session), None
        for each in asked:
            if each.answer is None or not each.answer.HasField("status"):
                continue
            if best is None or newer(best, each.answer.status) is each.answer.status:
                best, address = each.answer.status, each.status.address
        return Owner(address, _silent(asked) if best is None or best.state == _OFF else ())


def doubt(status: pb.NodeStatus, asked: Iterable[Asked]) -> None:
    """A node without an open stream where it was looked for may have one at a replica that is silent."""
    if status.state == _OFF:
        status.silent_replicas.extend(_silent(asked))


def _silent(asked: Iterable[Asked]) -> tuple[str, ...]:
    return tuple(sorted(each.status.address for each in asked if each.status.error))


def newer(one: pb.NodeStatus | None, other: pb.NodeStatus) -> pb.NodeStatus:
    """Of two accounts of one node: that of its open stream, or of the one that came last."""
    if one is None:
        return other
    ranks = [(status.state != _OFF, status.connected_unix_nano) for status in (one, other)]
    return one if ranks[0] >= ranks[1] else other
