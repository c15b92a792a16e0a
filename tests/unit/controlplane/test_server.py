"""What the server makes of what a session says: nodes, counts, notices and commits, over gRPC on loopback."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import pytest
from msgspec.structs import replace

from controlplane import stream_shares
from controlplane import streams as streams_module
from controlplane.admission import Admitted
from controlplane.cluster import Cluster
from controlplane.facts import Fact
from controlplane.identity.door import Door
from controlplane.log import Log
from controlplane.notices import Notice
from controlplane.resume import MAX_REQUEST_BYTES
from controlplane.server import STREAM, Server
from controlplane.session import Limits, Session
from controlplane.trace import NodeCommit, NoTracing
from deltaplane.model import Kind, Node, ObjectKey
from deltaplane.v1 import delta_pb2 as pb
from tests.sessions import objects
from tools.lab.ports import free_port

LIMIT = 20.0
NARROW = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_535))  # what nobody reads fills it
HELLO = pb.Hello(
    node_name="n1", agent_instance="a", protocol_min=1, protocol_max=1, proxy_mode="nftables", proxy_mode_asked="ipvs",
    proxy_mode_reason="no ip_vs",
)  # fmt: skip


class Told(NoTracing):
    """Collects notices and commits; `came` is set with each."""

    listens = True

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self.commits: list[NodeCommit] = []
        self.came = asyncio.Event()

    def tell(self, notice: Notice) -> None:
        self.notices.append(notice)
        self.came.set()

    def committed(self, commit: NodeCommit) -> None:
        self.commits.append(commit)
        self.came.set()


class Place:
    """A server with one Service, and one agent's stream to it."""

    def __init__(self, services: int, limits: Limits | None) -> None:
        self.told = Told()
        self.door = Door()
        self.cluster = Cluster(Log(), self.told)
        made = (replace(objects.service(n % 250), name=f"svc-{n}") for n in range(1, services + 1))
        self.cluster.update([Fact(each.key, each) for each in made])
        self.cluster.update([Fact(ObjectKey(Kind.NODE, "", "n1"), Node("n1"))])
        for kind in Kind:
            self.cluster.synced(kind)
        self.address = f"127.0.0.1:{free_port()}"
        self.server = Server(self.address, self.cluster, self.told, self.told, door=self.door, limits=limits)
        self.call: Any

    async def say(self, **message: object) -> None:
        await self.call.write(pb.WatchRequest(**message))  # type: ignore[arg-type]

    async def read(self, kind: str) -> pb.WatchResponse:
        """The next message of this kind."""
        async with asyncio.timeout(LIMIT):
            while True:
                message = await self.call.read()
                assert isinstance(message, pb.WatchResponse)
                if message.WhichOneof("message") == kind:
                    return message

    async def news(self) -> None:
        async with asyncio.timeout(LIMIT):
            await self.told.came.wait()
        self.told.came.clear()


def watching(channel: grpc.aio.Channel) -> Any:
    """Opens a stream when it is called."""
    return channel.stream_stream(
        f"/{STREAM}/Watch",
        request_serializer=pb.WatchRequest.SerializeToString,
        response_deserializer=pb.WatchResponse.FromString,
    )


@asynccontextmanager
async def opened(services: int = 1, limits: Limits | None = None) -> AsyncIterator[Place]:
    place = Place(services, limits)
    await place.server.start()
    async with grpc.aio.insecure_channel(place.address, NARROW) as channel:
        place.call = watching(channel)()
        try:
            yield place
        finally:
            place.call.cancel()
            await place.server.stop()


async def test_an_agent_that_comes_is_a_node_and_its_other_mode_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with opened() as place:
        await place.say(hello=HELLO)
        await place.read("snapshot_end")

        assert [session.node_name for session in place.server.nodes] == ["n1"]
        assert [notice.reason for notice in place.told.notices] == ["ProxyModeFallback"]
        lines = [record.getMessage() for record in caplog.records if "agent connected" in record.getMessage()]
        assert len(lines) == 1
        assert "node=n1" in lines[0]


async def test_how_its_state_was_brought_up_is_counted_when_it_is_sent_and_not_when_it_next_speaks() -> None:
    async with opened() as place:
        await place.say(hello=HELLO)
        await place.read("snapshot_end")

        assert place.server.nodes.tally.number == {("CONNECTED", "whole"): 1}
        assert place.server.nodes.tally.size["whole"] > 0

        await place.say(resync_request=pb.ResyncRequest(reason=pb.RESYNC_REASON_GAP))
        await place.read("snapshot_end")
        assert place.server.nodes.tally.number == {("CONNECTED", "whole"): 1, ("GAP", "whole"): 1}
        assert place.server.nodes.resyncs == {"GAP": 1}


async def test_a_brake_that_holds_is_a_notice_however_often_the_agent_repeats_it() -> None:
    hello = pb.Hello()
    hello.CopyFrom(HELLO)
    hello.proxy_mode_asked = ""
    async with opened() as place:
        await place.say(hello=hello)
        await place.read("snapshot_end")
        for _ in range(2):
            await place.say(ack=pb.Ack(brake=pb.Brake(services_removed=35, services=40)))
        await place.news()
        await place.say(ack=pb.Ack(received_rev=1, applied_rev=1, commits=[pb.CommitReport(to_rev=1)]))
        await place.news()

        assert [notice.reason for notice in place.told.notices] == ["SafetyBrake"]
        assert [commit.report.to_rev for commit in place.told.commits] == [1]


async def test_a_message_that_its_phase_does_not_know_ends_the_stream_with_a_reason() -> None:
    async with opened() as place:
        await place.say(ack=pb.Ack())
        async with asyncio.timeout(LIMIT):
            assert await place.call.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "the first message must be Hello, not ack" in await place.call.details()
        assert len(place.server.nodes) == 0


async def hello_of(place: Place, channel: grpc.aio.Channel, **fields: Any) -> Any:
    """Another stream that has said its Hello."""
    hello = pb.Hello()
    hello.CopyFrom(HELLO)
    for name, value in fields.items():
        setattr(hello, name, value)
    call = watching(channel)()
    await call.write(pb.WatchRequest(hello=hello))
    return call


async def ended(call: Any) -> tuple[grpc.StatusCode, str]:
    async with asyncio.timeout(LIMIT):
        return await call.code(), await call.details()


async def test_hellos_with_new_names_leave_nothing_and_write_no_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_shares, "STRANGE_HELLOS", 1e-6)  # none is allowed again while the test takes its time
    async with opened() as place, grpc.aio.insecure_channel(place.address) as channel:
        for number in range(80):
            call = await hello_of(place, channel, node_name=f"x{number}", agent_instance=str(number))
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await call.read()
            call.cancel()
        async with asyncio.timeout(LIMIT):
            while len(place.server.nodes):  # noqa: ASYNC110 - streams end in gRPC's own time
                await asyncio.sleep(0.01)
        assert place.told.notices == []
        assert place.door.refused.counts["strange-hellos"] == 80 - stream_shares.STRANGE_HELLOS_AT_ONCE


async def test_of_two_agents_under_one_name_the_newer_has_the_stream_and_the_other_is_told() -> None:
    async with opened() as place, grpc.aio.insecure_channel(place.address) as channel:
        await place.say(hello=HELLO)
        await place.read("snapshot_end")
        newer = await hello_of(place, channel, agent_instance="b")
        assert (await ended(place.call))[0] is grpc.StatusCode.ABORTED
        for _ in range(4):
            status, text = await ended(await hello_of(place, channel, agent_instance="a"))
            assert status is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "two agents run as node n1" in text
        assert not newer.done()
        assert [notice.reason for notice in place.told.notices if notice.reason == "TwoAgents"] == ["TwoAgents"]
        assert place.door.refused.counts == {"two-agents": 4}


async def test_who_reads_nothing_ends_and_pins_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(streams_module, "WRITE_SECONDS", 0.2)
    async with opened(services=20_000) as place:
        await place.say(hello=HELLO)
        caplog.clear()  # as below
        async with asyncio.timeout(LIMIT):
            while not place.door.refused.counts["stuck"]:  # noqa: ASYNC110 - nothing arrives that could be awaited
                await asyncio.sleep(0.01)
        session = place.server.nodes.get("n1")
        assert session is not None
        assert session.closed is not None
        assert not session._feed._catch_up.sending
    assert not [record for record in caplog.records if record.exc_info], "a stuck client fills no log with tracebacks"


async def test_more_messages_than_a_stream_may_send_are_read_more_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_shares, "MESSAGES_AT_ONCE", 4.0)
    monkeypatch.setattr(stream_shares, "MESSAGES", 4.0)  # they come faster on any machine
    async with opened() as place:
        await place.say(hello=HELLO)
        await place.read("snapshot_end")
        for _ in range(14):
            await place.say(ack=pb.Ack(received_rev=1, applied_rev=1))
        await place.say(drain=pb.Drain(reason="over"))
        assert (await ended(place.call))[0] is grpc.StatusCode.OK
        assert place.door.refused.counts["messages"] > 5


async def test_what_is_no_message_ends_its_stream_with_a_clear_status_and_is_no_defect(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with opened() as place, grpc.aio.insecure_channel(place.address) as channel:
        async with asyncio.timeout(LIMIT):
            await channel.channel_ready()
        caplog.clear()  # gRPC's one poller has told this loop what came late for the closed loop of an earlier test
        call: Any = channel.stream_stream(f"/{STREAM}/Watch")()
        await call.write(b"\xff\xff\xff")
        async with asyncio.timeout(LIMIT):
            assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "no WatchRequest" in await call.details()
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_message_that_is_too_large_ends_its_stream_before_it_is_decoded() -> None:
    async with opened() as place:
        await place.say(hello=HELLO)
        await place.read("snapshot_end")
        await place.say(ack=pb.Ack(commits=[pb.CommitReport()] * (MAX_REQUEST_BYTES // 2)))
        status, text = await ended(place.call)
        assert (status, "bytes: the limit is" in text) == (grpc.StatusCode.INVALID_ARGUMENT, True)
        assert place.door.refused.counts == {"protocol": 1}


async def test_what_comes_after_the_end_of_a_stream_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[bytes] = []
    take = streams_module.Streams._take

    def noted(streams: streams_module.Streams, data: bytes, session: Session, admitted: Admitted) -> None:
        taken.append(data)
        take(streams, data, session, admitted)

    monkeypatch.setattr(streams_module.Streams, "_take", noted)
    async with opened() as place:
        await place.say(hello=HELLO)
        for _ in range(50):
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await place.say(hello=HELLO)  # the second is wrong
        await ended(place.call)  # as broken, for a client that writes at that moment
        assert place.door.refused.counts == {"protocol": 1}
    assert len(taken) == 2


async def test_a_stream_without_hello_is_counted_when_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(limits=Limits(hello=0.05)) as place:
        assert (await ended(place.call))[0] is grpc.StatusCode.DEADLINE_EXCEEDED
        assert place.door.refused.counts == {"no-hello": 1}


async def gone(ended: weakref.ref[Any]) -> None:
    async with asyncio.timeout(LIMIT):
        while ended() is not None:  # noqa: ASYNC110 - nothing tells when a reference is gone
            await asyncio.sleep(0.01)


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("end", ["the agent goes", "the replica ends it"])
async def test_a_stream_that_has_ended_leaves_nothing_to_the_garbage_collector(end: str) -> None:
    hello = pb.Hello(node_name="no-node", agent_instance="a", protocol_min=1, protocol_max=1)  # nothing is kept of it
    async with opened() as place:
        await place.say(hello=hello)
        await place.read("snapshot_end")
        session = weakref.ref(next(iter(place.server.nodes)))
        if end == "the agent goes":
            place.call.cancel()
        else:
            place.cluster.log.digest ^= 1
            place.cluster.heal()
        await gone(session)
