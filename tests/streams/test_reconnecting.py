"""However a stream ends, the agent dials again. Real sockets, a replica with a script, the agent's own session."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import grpc
import pytest
from msgspec.structs import replace

from controlplane import server
from deltaplane.backoff import Backoff
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.stream.call import Ended
from nodeagent.stream.channel import OPTIONS, RECEIVE_BYTES
from nodeagent.stream.client import Client, Pauses
from nodeagent.stream.places import Place
from tests.streams.peer import (
    PAUSES,
    TIMES,
    UNPROBED,
    Context,
    Replica,
    Script,
    Talk,
    cable,
    heartbeat,
    running,
    serving,
    welcome,
)


async def healthy(requests: AsyncIterator[bytes], context: Context) -> None:
    await context.write(welcome())
    async for _ in requests:
        await context.write(heartbeat())


def left_open(*messages: bytes) -> Script:
    """Says this, and neither ends the stream nor says more."""

    async def script(requests: AsyncIterator[bytes], context: Context) -> None:
        for message in messages:
            await context.write(message)
        await asyncio.Event().wait()

    return script


def refusing(code: grpc.StatusCode) -> Script:
    async def script(requests: AsyncIterator[bytes], context: Context) -> None:
        await context.abort(code, "not you")

    return script


async def closing(requests: AsyncIterator[bytes], context: Context) -> None:
    await context.write(welcome())


async def leaving(requests: AsyncIterator[bytes], context: Context) -> None:
    await context.write(welcome())
    await context.write(pb.WatchResponse(go_away=pb.GoAway(reason="stops")).SerializeToString())
    await context.abort(grpc.StatusCode.UNAVAILABLE, "stops")


def client_of(*replicas: str, talk: Talk, pauses: Pauses = PAUSES) -> Client:
    client = Client(replicas, talk, times=TIMES, pauses=pauses, options=UNPROBED)
    client._servers = [Place(replica) for replica in replicas]  # in this order, not in a random one
    return client


GO_AWAY = pb.WatchResponse(go_away=pb.GoAway(reason="rebalance")).SerializeToString()
DELTA = pb.WatchResponse(delta=pb.Delta(epoch=bytes(16), from_rev=1, to_rev=2)).SerializeToString()
ENDS: dict[str, Script] = {
    "closed": closing,
    "GoAway and closed": leaving,
    "GoAway and left open": left_open(welcome(), GO_AWAY),
    "GoAway before Welcome": left_open(GO_AWAY),
    "Welcome twice": left_open(welcome(), welcome()),
    "another protocol": left_open(welcome(protocol=2)),
    "a delta before Welcome": left_open(DELTA),
    "garbage first": left_open(b"\xff\xff\xff"),
    "an empty message first": left_open(b""),
    "too large a message": left_open(bytes(RECEIVE_BYTES + 1)),
    **{
        f"refused {code.name}": refusing(code)
        for code in (
            grpc.StatusCode.UNAUTHENTICATED,
            grpc.StatusCode.PERMISSION_DENIED,
            grpc.StatusCode.FAILED_PRECONDITION,
            grpc.StatusCode.UNIMPLEMENTED,
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.CANCELLED,
            grpc.StatusCode.ABORTED,
            grpc.StatusCode.INTERNAL,
        )
    },
}


@pytest.mark.parametrize("script", ENDS.values(), ids=ENDS)
async def test_the_next_attempt_follows(script: Script) -> None:
    talk = Talk()
    async with serving(Replica(script, script, healthy)) as replica, running(client_of(replica.address, talk=talk)):
        await replica.served(3)
        await until(lambda: talk.session.welcomed)

        assert talk.ended == 2


async def test_a_reset_connection_is_dialled_again() -> None:
    talk = Talk()
    async with (
        serving(Replica(healthy)) as replica,
        cable(replica.port) as wire,
        running(client_of(wire.address, talk=talk)),
    ):
        await until(lambda: talk.session.welcomed)
        wire.reset()
        await replica.served(2)


async def test_silence_from_the_replica_ends_the_stream() -> None:
    """The connection stays, bytes go up and none come down; pings are off."""
    talk = Talk(silence=0.5)
    async with (
        serving(Replica(chatting)) as replica,
        cable(replica.port) as wire,
        running(client_of(wire.address, talk=talk)),
    ):
        await until(lambda: talk.session.welcomed)
        wire.down.clear()
        await replica.served(2)
        await until(lambda: talk.session.welcomed)

        assert "nothing heard" in talk.reasons[0]


PINGS = {"grpc.keepalive_time_ms": 300, "grpc.keepalive_timeout_ms": 200, "grpc.http2.ping_timeout_ms": 200}
PINGING = tuple((name, PINGS.get(name, value)) for name, value in server.OPTIONS)
"""The replica's own options with shorter times. gRPC takes the first of an option that stands twice."""


async def test_a_replica_that_hears_nothing_ends_the_stream_and_the_agent_dials_again() -> None:
    """The connection stays, bytes come down and none go up: no ping is answered, though the kernels confirm all."""
    talk = Talk()
    async with (
        serving(Replica(chatting), *PINGING) as replica,
        cable(replica.port) as wire,
        running(client_of(wire.address, talk=talk)),
    ):
        await until(lambda: talk.session.welcomed)
        wire.up.clear()
        await replica.served(2)
        await until(lambda: talk.session.welcomed)

        assert talk.reasons == []  # it was not the agent that gave up


async def test_a_loop_that_is_held_still_answers_pings() -> None:
    """Else a large transaction would cost the stream."""
    held: list[int] = []

    def hold(_data: bytes) -> None:
        if not held:
            held.append(1)
            time.sleep(2.0)

    talk = Talk(on=hold)
    async with serving(Replica(chatting), *PINGING) as replica, running(client_of(replica.address, talk=talk)):
        await until(lambda: talk.messages > 20)

        assert (replica.streams, talk.reasons) == (1, [])


async def chatting(requests: AsyncIterator[bytes], context: Context) -> None:
    await context.write(welcome())
    while True:
        await context.write(heartbeat())
        await asyncio.sleep(0.05)


async def test_what_takes_longer_than_the_silence_limit_is_no_silence() -> None:
    """One message holds the loop; those that wait are handled, and the stream goes on."""
    held: list[int] = []

    def hold(_data: bytes) -> None:
        if not held:
            held.append(1)
            time.sleep(1.2)

    talk = Talk(silence=0.6, on=hold)
    async with serving(Replica(chatting)) as replica, running(client_of(replica.address, talk=talk)):
        await until(lambda: talk.messages > 20)

        assert (replica.streams, talk.reasons) == (1, [])


async def test_a_loop_that_stood_still_reads_before_it_blames_the_replica() -> None:
    talk = Talk(silence=0.8)
    async with serving(Replica(chatting)) as replica, running(client_of(replica.address, talk=talk)):
        await until(lambda: talk.messages > 3)
        time.sleep(2.0)  # noqa: ASYNC251 - as a stopped process, or kernel work in a callback
        before = talk.messages
        await until(lambda: talk.messages > before + 10)

        assert (replica.streams, talk.reasons) == (1, [])


async def test_an_exception_in_the_agents_own_handling_ends_the_stream_and_is_told() -> None:
    told: list[tuple[str, BaseException]] = []

    def fail(_data: bytes) -> None:
        if talk.opened < 3:
            raise KeyError("a defect")

    talk = Talk(on=fail)
    async with serving(Replica(healthy)) as replica:
        client = Client(
            [replica.address], talk, times=TIMES, pauses=PAUSES, defect=lambda name, error: told.append((name, error))
        )
        async with running(client):
            await until(lambda: talk.session.welcomed)

    assert [(name, type(error)) for name, error in told] == [("stream", KeyError)] * 2


async def test_a_replica_that_reads_nothing_is_left() -> None:
    """Its flow control lets no more through: a send that nobody takes ends the stream."""
    talk = Talk()
    talk.tick = lambda now: [bytes(1 << 18)] if talk.session.welcomed else []  # type: ignore[method-assign]
    async with serving(Replica(left_open(welcome()))) as replica, running(client_of(replica.address, talk=talk)):
        await replica.served(2)


@pytest.mark.parametrize("mute", [True, False], ids=["silent", "gone"])
async def test_the_second_server_is_reached_where_the_first_is_dead(*, mute: bool) -> None:
    """Nobody listens there, or somebody accepts and never says a word."""
    accepting = socket.create_server(("127.0.0.1", 0))
    dead = f"127.0.0.1:{accepting.getsockname()[1]}"
    if not mute:
        accepting.close()
    talk = Talk()
    async with serving(Replica(healthy)) as replica, running(client_of(dead, replica.address, talk=talk)):
        await until(lambda: talk.session.welcomed)
    accepting.close()


async def test_cancelling_the_client_ends_it() -> None:
    talk = Talk()
    async with serving(Replica(healthy)) as replica:
        task = asyncio.create_task(client_of(replica.address, talk=talk).run())
        await until(lambda: talk.session.welcomed)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    assert task.cancelled()
    assert talk.ended == talk.opened == 1


# ------------------------------------------------------------ when, and where to


def waits(
    talk: Talk,
    *ends: Ended,
    pauses: Pauses = Pauses(),  # noqa: B008
    lasted: float = 0.0,
    servers: tuple[str, ...] = ("a:1",),
) -> list[float]:
    client = Client(servers, talk, jitter=lambda: 1.0, pauses=pauses)
    return [client._next(end, lasted) for end in ends]


def test_the_wait_doubles_while_streams_come_to_nothing() -> None:
    assert waits(Talk(), *[Ended("")] * 8) == [0.5, 1, 2, 4, 8, 15, 15, 15]


def test_the_wait_doubles_once_all_servers_have_failed_and_not_with_each() -> None:
    """Replicas that restart in the order of the agent's list each end a young stream; the next one is there."""
    assert waits(Talk(), *[Ended("", heard=True)] * 7, servers=("a:1", "b:1", "c:1")) == [0.5] * 3 + [1] * 3 + [2]


def test_a_stream_that_lasted_starts_anew_and_one_that_did_not_does_not() -> None:
    assert waits(Talk(), Ended("", heard=True), Ended("", heard=True), lasted=5.0) == [0.25, 0.25]
    assert waits(Talk(), Ended("", heard=True), Ended("", heard=True), lasted=0.1) == [0.5, 1]


def test_two_agents_of_one_name_do_not_chase_each_other() -> None:
    superseded = Ended("ABORTED", heard=True, superseded=True)

    assert waits(Talk(), *[superseded] * 6, lasted=5.0, servers=("a:1", "b:1")) == [0.5, 1, 2, 4, 8, 15]


def test_a_refusal_waits_for_up_to_a_minute() -> None:
    assert waits(Talk(), Ended("", refused=True)) == [60]


def test_the_wait_is_drawn_from_nothing_to_its_limit() -> None:
    client = Client(["a:1"], Talk(), jitter=lambda: 0.0)

    assert client._next(Ended(""), 0.0) == 0


@pytest.mark.parametrize("asked, waited", [(250, 0.25), (2**32 - 1, 60.0)])
def test_a_replica_says_how_long_to_wait_up_to_a_limit(asked: int, waited: float) -> None:
    talk = Talk()
    talk.session._liveness.asked_to_go(pb.GoAway(retry_after_ms=asked))

    assert waits(talk, Ended("", heard=True), pauses=replace(Pauses(), failed=Backoff(0.0, 0.0))) == [waited]


def test_a_replica_leads_nobody_off_the_agents_own_list() -> None:
    talk = Talk()
    client = Client(["a:1", "b:1", "c:1"], talk)
    client._servers = [Place("a:1"), Place("b:1"), Place("c:1")]
    talk.session._liveness.asked_to_go(pb.GoAway(targets=["evil:1", "c:1"]))

    client._next(Ended("", heard=True), 5.0)
    client._arrange()

    assert [place.server for place in client._servers] == ["c:1", "a:1", "b:1"]


def test_whom_a_replica_sends_elsewhere_goes_at_once_unless_it_has_just_come() -> None:
    talk = Talk()
    for lasted, waited in ((5.0, 0.0), (0.1, 0.5)):
        talk.session._liveness.asked_to_go(pb.GoAway(targets=["a:1"]))
        assert waits(talk, Ended("", heard=True), lasted=lasted) == [waited]


def test_proxy_variables_do_not_lead_the_stream_away() -> None:
    assert ("grpc.enable_http_proxy", 0) in OPTIONS


async def until(true: object) -> None:
    """Lets the loop run until it is so."""
    assert callable(true)
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - what is looked at has no event
            await asyncio.sleep(0.01)
