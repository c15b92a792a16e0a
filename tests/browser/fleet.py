"""A replica in this process with as many nodes as a test wants, and the page in front of it on a port of loopback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from controlplane.facts import Fact
from controlplane.identity.door import Door
from controlplane.inflight import Applied
from controlplane.page.history import History
from controlplane.page.http import Server
from controlplane.page.site import HEADERS, May, Site
from controlplane.session import Session
from deltaplane.model import Kind, Node, ObjectKey, Service
from deltaplane.v1 import delta_pb2 as pb
from deltaplane.views import key_message
from tests.sessions import objects
from tests.unit.controlplane.inspection.replica import Asked


class Fleet(Asked):
    """Nodes acknowledge what `follow` gives them. The first three have Node objects: more make every snapshot long."""

    def __init__(self, nodes: int) -> None:
        super().__init__()
        names = [f"node-{number:04}" for number in range(nodes)]
        self.cluster.update([Fact(ObjectKey(Kind.NODE, "", name), Node(name)) for name in names[:3]])
        self.history = History(lambda: self.nodes)
        self.progress.hear(self.history.commit)
        self.sessions = [self.node(name) for name in names]
        for session in self.sessions:
            self.follow(session)

    def change(self, thing: Service) -> None:
        """The API server says so now."""
        self.cluster.update([Fact(thing.key, thing, event_unix_nano=time.time_ns())])

    def follow(self, session: Session, *, failing: str = "") -> None:
        """The node takes what there is, and says so."""
        now = time.monotonic()
        while session.next_message(now, time.time_ns()) is not None:
            pass
        head = self.cluster.log.head
        key = key_message(objects.service_key(1))
        failed = [pb.ObjectFailure(key=key, code=pb.ERROR_CODE_CONFLICT, text=failing)] if failing else []
        report = pb.CommitReport(to_rev=head, queued_ns=1_000_000, resolve_ns=2_000_000, commit_ns=3_000_000)
        request = pb.Ack(received_rev=head, applied_rev=head, commits=[report], failed=failed)
        for event in session.on_message(pb.WatchRequest(ack=request), now):
            if isinstance(event, Applied):
                self.progress.applied(session, event, time.time_ns(), nodes=len(self.nodes))


@asynccontextmanager
async def page(fleet: Asked, may: May | None = None, history: History | None = None) -> AsyncIterator[str]:
    """The page's address. `may`: who may ask what; everybody, where it is not said."""
    site = Site(fleet.inspection, may or Door().person, open_to_all=may is None, history=history)
    server = Server(site, HEADERS)
    listening = await asyncio.start_server(server.connected, "127.0.0.1", 0, limit=32 * 1024)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()
        server.close()
        await site.live.close()
