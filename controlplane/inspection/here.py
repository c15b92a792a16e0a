"""What a replica knows, as the answers to operators read it. Values of the moment; nothing here changes anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from math import inf

from msgspec import Struct, field

from controlplane.cluster import Cluster
from controlplane.facts import Following
from controlplane.inspection.holders import Holders
from controlplane.inspection.roll import Roll
from controlplane.inspection.touched import Recent
from controlplane.nodes import Nodes
from controlplane.session import Session
from controlplane.store import number_of
from deltaplane import moments
from deltaplane.model import EndpointSlice, Kind, Node, ObjectKey, Service, ServiceName
from deltaplane.v1 import delta_pb2, inspection_pb2

SHOWN_UNUSABLE = 100  # objects in GetStatus
MAX_ERROR = 1000  # characters
SHOWN_FAILURES = 3  # of a node in ListNodes, whose answer has all nodes and must stay below 4 MiB
RESOURCES = {
    Kind.SERVICE: "services",
    Kind.ENDPOINT_SLICE: "endpointslices",
    Kind.NODE: "nodes",
    Kind.SERVICE_CIDR: "servicecidrs",
}


class Here(Struct, frozen=True):
    """One replica. `sources`: how each resource is followed. `no_agents`: why it takes none; empty: it does."""

    server_id: str
    cluster: Cluster
    nodes: Nodes
    sources: Callable[[], Iterable[Following]] = tuple
    holders: Holders = field(default_factory=Holders)
    recent: Recent = field(default_factory=Recent)
    roll: Roll = field(default_factory=Roll)
    no_agents: Callable[[], str] = str

    @property
    def epoch(self) -> str:
        """In hexadecimal."""
        return self.cluster.log.epoch.hex()

    @property
    def head(self) -> int:
        """The newest revision."""
        return self.cluster.log.head

    def connected(self) -> int:
        """How many agents have a stream here."""
        return len(self.nodes.open_names)

    def session(self, name: str) -> Session | None:
        """The node's stream, open or closed."""
        return self.nodes.get(name)

    def stream_seconds(self, name: str) -> float:
        """How long the node has had its stream here; infinite: it has none."""
        session = self.nodes.get(name)
        return time.monotonic() - session.since if session is not None and session.closed is None else inf

    def node(self, name: str) -> Node | None:
        """The Node object."""
        found = self.cluster.store.get(ObjectKey(Kind.NODE, "", name))
        return found if isinstance(found, Node) else None

    def missing_labels(self, name: str) -> tuple[str, ...]:
        """What the Node lacks for an agent to run there, KEY=VALUE each."""
        return self.cluster.agent_nodes.missing(name)

    def names(self) -> tuple[str, ...]:
        """All nodes, sorted: the Node objects, and agents that are connected without one."""
        return self.roll.names(self.cluster, self.nodes)

    def nodes_of_cluster(self) -> Iterator[str]:
        """The names of all Node objects."""
        return (key.name for key in self.cluster.store.keys(Kind.NODE))

    def service(self, namespace: str, name: str) -> Service | None:
        """The Service."""
        found = self.cluster.store.get(ObjectKey(Kind.SERVICE, namespace, name))
        return found if isinstance(found, Service) else None

    def slices(self) -> Iterator[EndpointSlice]:
        """All EndpointSlices."""
        store = self.cluster.store
        for key in store.keys(Kind.ENDPOINT_SLICE):
            found = store.get(key)
            if isinstance(found, EndpointSlice):
                yield found

    def slices_of(self, namespace: str, name: str) -> list[EndpointSlice]:
        """The slices of one Service, by name."""
        return self.holders.slices_of(self.cluster, (namespace, name))

    def services_at(self, address: bytes) -> list[ServiceName]:
        """The Services that have the packed address in a slice, or had it a while ago."""
        return self.holders.at(self.cluster, address)

    def followed(self, kind: Kind) -> Following | None:
        """How a kind is followed; None: its source does not say."""
        named = RESOURCES[kind]
        return next((each for each in self.sources() if each.resource.partition(".")[0] == named), None)

    def unfollowed(self) -> str:
        """What is not followed, and why the first of it is not; empty: all is."""
        failing = [each for each in self.sources() if each.error]
        return f"{', '.join(each.resource for each in failing)} ({failing[0].error})" if failing else ""

    def seen(self, kind: Kind) -> int:
        """Up to which resourceVersion every change of a kind is in the store; -1: there are no versions."""
        stored = number_of(self.cluster.store.versions.get(kind, ""))
        following = self.followed(kind)
        if following is None or not following.version:
            return stored
        return min(stored, number_of(following.version))  # while a list comes in, the store runs ahead of removals

    def status(self) -> inspection_pb2.ReplicaStatus:
        """This replica, as its peers and its answers show it."""
        return inspection_pb2.ReplicaStatus(
            server_id=self.server_id,
            epoch=self.epoch,
            head_rev=self.head,
            digest=f"{self.cluster.store.digest.value:016x}",
            connected_nodes=self.connected(),
            unfollowed=[source_status(each) for each in self.sources() if each.error],
            no_agents=self.no_agents()[:MAX_ERROR],
        )

    def node_status(
        self, session: Session, now: float | None = None, shown: int = SHOWN_FAILURES
    ) -> inspection_pb2.NodeStatus:
        """A node as ListNodes shows it; `now` in monotonic seconds."""
        now = time.monotonic() if now is None else now
        status = node_status(session, now, shown)
        status.server_id, status.head_rev = self.server_id, self.head
        status.epoch = (session.epoch or b"").hex()
        status.missing_labels.extend(self.missing_labels(session.node_name))
        status.connected_unix_nano = unix_nano(session.since, now) if session.node_name else 0
        status.acked_unix_nano = unix_nano(session.acked_at, now)
        if session.closed is not None:
            status.disconnected_reason = session.closed.detail
            status.disconnected_unix_nano = unix_nano(self.nodes.left(session.node_name), now)
        elif (pending := session.acked.pending) is not None:
            since = unix_nano(pending.since, now)
            status.pending.MergeFrom(
                inspection_pb2.PendingCommit(rev=pending.rev, text=pending.text, since_unix_nano=since)
            )
        return status

    def counts(self) -> delta_pb2.Counts:
        """How many objects of each kind there are."""
        store = self.cluster.store
        return delta_pb2.Counts(
            services=store.count(Kind.SERVICE),
            endpoint_slices=store.count(Kind.ENDPOINT_SLICE),
            nodes=store.count(Kind.NODE),
            service_cidrs=store.count(Kind.SERVICE_CIDR),
        )


def unix_nano(at: float, now: float) -> int:
    """A monotonic time as Unix nanoseconds; 0 stays 0. `now`: monotonic, the present."""
    return moments.unix_nano() - int((now - at) * 1e9) if at else 0


def node_status(session: Session, now: float, shown: int = SHOWN_FAILURES) -> inspection_pb2.NodeStatus:
    """What a session says of its node, with this many of its failures."""
    acked = session.acked
    return inspection_pb2.NodeStatus(
        node_name=session.node_name,
        state=session.state(now),
        proxy_mode=session.hello.proxy_mode,
        proxy_mode_asked=session.hello.proxy_mode_asked,
        proxy_mode_reason=session.hello.proxy_mode_reason,
        agent_version=session.hello.agent_version,
        sent_rev=session.sent_rev,
        received_rev=acked.received_rev,
        applied_rev=acked.applied_rev,
        behind_seconds=session.behind_seconds(now),
        failed=acked.failed[:shown],
        more_failed=acked.more_failed + max(0, len(acked.failed) - shown),
        brake=acked.brake,
        peer=session.peer,
        brought_up=session.brought_up,
    )


def status_answer(here: Here, version: str) -> inspection_pb2.GetStatusResponse:
    """What GetStatus says of this replica alone."""
    cluster, problems = here.cluster, list(here.cluster.problems())
    return inspection_pb2.GetStatusResponse(
        server_id=here.server_id,
        epoch=here.epoch,
        head_rev=here.head,
        tail_rev=cluster.log.tail,
        counts=here.counts(),
        digest=cluster.store.digest.value,
        connected_nodes=here.connected(),
        version=version,
        cluster_id=cluster.cluster_id,
        ready=cluster.ready,
        sources=[source_status(each) for each in here.sources()],
        unusable=[
            inspection_pb2.UnusableObject(where=where[:MAX_ERROR], reason=reason[:MAX_ERROR])
            for where, reason in problems[:SHOWN_UNUSABLE]
        ],
        more_unusable=max(0, len(problems) - SHOWN_UNUSABLE),
    )


def source_status(each: Following) -> inspection_pb2.SourceStatus:
    """How a resource is followed, as it is shown."""
    return inspection_pb2.SourceStatus(
        resource=each.resource,
        following=not each.error,
        since_unix_nano=each.since_unix_nano,
        error=each.error[:MAX_ERROR],
        resource_version=each.version,
    )
