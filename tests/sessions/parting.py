"""An agent, its replica and a link that keeps what was sent, for the tests of partial snapshots."""

from __future__ import annotations

from controlplane.facts import Fact
from deltaplane.digest import CHILDREN, leaf_of
from deltaplane.model import Kind, ObjectKey, Service, ServicePort, Upsert
from deltaplane.snapshot import PARTIAL
from deltaplane.v1 import delta_pb2 as pb
from tests.sessions.link import Link, Node, Replica

MANY = 400
PORTS = (ServicePort("http", 6, 80),)


def service(number: int, version: int = 0) -> Service:
    return Service("ns", f"svc-{number}", 1, (bytes((10, 96 + version, number // 250, number % 250)),), PORTS)


def fact(number: int, version: int | None = 0) -> Fact:
    made = None if version is None else service(number, version)
    return Fact(ObjectKey(Kind.SERVICE, "ns", f"svc-{number}"), made)


def bucket_of(key: ObjectKey) -> int:
    return leaf_of(key) // CHILDREN


class Recorded(Link):
    """A link that keeps what the replica sent on it."""

    def __init__(self, replica: Replica, node: Node) -> None:
        super().__init__(replica, node)
        self.sent: list[pb.WatchResponse] = []

    def pull(self) -> None:
        known = len(self.down)
        super().pull()
        self.sent += [pb.WatchResponse.FromString(data) for data in list(self.down)[known:]]

    def deliver_down(self) -> None:
        """Without the link's own check, since the mirrors here are altered on purpose."""
        if self.down:
            self.up += self.node.take(self.down.popleft(), self.now)

    def kinds(self) -> list[str | None]:
        return [message.WhichOneof("message") for message in self.sent]

    def begins(self) -> list[pb.SnapshotBegin]:
        return [message.snapshot_begin for message in self.sent if message.HasField("snapshot_begin")]

    def resumes(self) -> dict[tuple[str, str], int]:
        return dict(self.replica.nodes.tally.number)


def joined(number: int = MANY, node: Node | None = None) -> Recorded:
    """An agent that has so many Services, and whose replica has nothing else to send.

    Without `node` it is one of before the digests on request: it says those of its buckets in each Hello.
    """
    made = Recorded(Replica(service(n) for n in range(number)), node or Node(capabilities=[PARTIAL]))
    made.connect()
    made.step()
    made.step(1.0)
    made.assert_same()
    made.sent.clear()
    made.replica.nodes.tally.number.clear()
    return made


def away(link: Recorded, *facts: Fact) -> None:
    """The agent is away while this changes and the log forgets it."""
    link.cut()
    link.now += 30.0
    link.replica.put(*facts, now=link.now)
    link.replica.log.expire(link.now + 1e6)
    link.connect()


def alter(link: Link, number: int, version: int) -> None:
    """The agent's mirror has another object than it was sent, and its kernel too."""
    mirror = link.node.agent.mirror
    mirror.commit(mirror.prepare([Upsert(service(number, version))]))
    link.node.kernel = link.node.wanted()
