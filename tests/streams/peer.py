"""Peers of a stream over real sockets: a replica with a script, a conversation that notes, a relay that cuts."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from deltaplane.backoff import Backoff
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.stream.call import Times
from nodeagent.stream.channel import OPTIONS, Options
from nodeagent.stream.client import Client, Pauses
from nodeagent.stream.handshake import Mode, identity
from nodeagent.stream.mirror import Mirror
from nodeagent.stream.session import Session

PATIENCE = 20.0  # seconds that anything may take on a busy machine
TIMES = Times(look=0.05, late=0.5, connect=1.0, send=0.5)
PAUSES = Pauses(idle=0.05, failed=Backoff(0.01, 0.05), refused=0.05, redirected=0.2, steady=0.0)
UNPROBED: Options = tuple((name, 3_600_000 if name == "grpc.keepalive_time_ms" else value) for name, value in OPTIONS)
"""Without HTTP/2's own pings: silence is for the agent to notice."""

Context = grpc.aio.ServicerContext[Any, Any]
Script = Callable[[AsyncIterator[bytes], Context], Awaitable[None]]


def welcome(**fields: Any) -> bytes:
    values = {"protocol": 1, "epoch": bytes(16), "decision": pb.RESUME_DECISION_SNAPSHOT, **fields}
    return pb.WatchResponse(welcome=pb.Welcome(**values)).SerializeToString()


def heartbeat() -> bytes:
    return pb.WatchResponse(heartbeat=pb.Heartbeat()).SerializeToString()


class Replica:
    """Plays one script after the other, the last one for ever. `streams` counts those that came."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = list(scripts)
        self.streams = 0
        self.came = asyncio.Condition()
        self.port = 0

    async def watch(self, requests: AsyncIterator[bytes], context: Context) -> None:
        script = self.scripts[min(self.streams, len(self.scripts) - 1)]
        async with self.came:
            self.streams += 1
            self.came.notify_all()
        await script(requests, context)

    async def served(self, streams: int) -> None:
        """Waits until so many have come."""
        async with asyncio.timeout(PATIENCE), self.came:
            await self.came.wait_for(lambda: self.streams >= streams)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@asynccontextmanager
async def serving(replica: Replica, *options: tuple[str, int]) -> AsyncIterator[Replica]:
    server = grpc.aio.server(options=options)
    handlers: Any = {"Watch": grpc.stream_stream_rpc_method_handler(replica.watch)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("deltaplane.v1.DeltaService", handlers),))
    replica.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield replica
    finally:
        await server.stop(0)


class Talk:
    """The real session without a kernel; `on` is called with each message before the session takes it."""

    def __init__(self, silence: float = 30.0, on: Callable[[bytes], None] = lambda data: None) -> None:
        self.session = Session(identity("node", Mode("nftables"), ""), Mirror(), silence=silence)
        self.on = on
        self.opened = self.ended = self.messages = 0
        self.reasons: list[str] = []

    def connected(self, now: float) -> bytes:
        self.opened += 1
        return self.session.connected(now)

    def received(self, data: bytes, now: float) -> list[bytes]:
        self.messages += 1
        self.on(data)
        self.session.received(data, now)
        return []

    def received_all(self, messages: Sequence[bytes], now: float) -> list[bytes]:
        return [answer for data in messages for answer in self.received(data, now)]

    def rest(self, now: float) -> float:
        return 0.0

    def long_message(self, data: bytes) -> bool:
        return False

    def long_tick(self, now: float) -> bool:
        return False

    def unsaid(self, now: float) -> list[bytes]:
        return self.session.unsaid(now)

    def tick(self, now: float) -> list[bytes]:
        return self.session.tick(now)

    def lost(self, now: float) -> str | None:
        reason = self.session.lost(now)
        if reason is not None:
            self.reasons.append(reason)
        return reason

    def disconnected(self, now: float) -> None:
        self.ended += 1
        self.session.disconnected()

    def handled(self, now: float) -> None:
        self.session.handled(now)

    def long_said(self, data: bytes) -> tuple[bytes, ...]:
        return ()

    def excused(self, seconds: float, now: float) -> None:
        self.session.excused(seconds, now)

    def pause(self, now: float) -> float:
        return self.session.pause(now)

    def redirect(self) -> tuple[float, tuple[str, ...]] | None:
        return self.session.redirect()


@asynccontextmanager
async def running(client: Client) -> AsyncIterator[asyncio.Task[None]]:
    """Fails where the client ended by itself."""
    task = asyncio.create_task(client.run())
    try:
        yield task
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Cable:
    """A TCP relay to `port`; `up` (agent to replica) and `down` pass bytes on while they are set."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.up, self.down = asyncio.Event(), asyncio.Event()
        self.up.set()
        self.down.set()
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self.up, self.down = asyncio.Event(), asyncio.Event()  # the newest connection's
        self.up.set()
        self.down.set()
        self._writers += [writer, far_writer]
        for source, sink, gate in ((reader, far_writer, self.up), (far_reader, writer, self.down)):
            task = asyncio.create_task(_pump(source, sink, gate))
            self._tasks.add(task)

    def reset(self) -> None:
        """RST to both ends of every connection."""
        for writer in self._writers:
            sock = writer.get_extra_info("socket")
            if sock is not None and not writer.transport.is_closing():
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
        self._writers.clear()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, gate: asyncio.Event) -> None:
    try:
        while data := await source.read(1 << 16):
            await gate.wait()
            sink.write(data)
            await sink.drain()
    except OSError:
        pass  # reset: the other side is told below
    finally:
        sink.close()


@asynccontextmanager
async def cable(port: int) -> AsyncIterator[Cable]:
    made = Cable(port)
    server = await asyncio.start_server(made._accept, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for task in made._tasks:
            task.cancel()
        await asyncio.gather(*made._tasks, return_exceptions=True)
        made.reset()
        await asyncio.sleep(0)  # transports that were aborted close in the next round of the loop
