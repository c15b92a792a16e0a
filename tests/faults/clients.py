"""Clients that are no agents, and a relay between an agent and its replica that alters messages on the way."""

from __future__ import annotations

import queue
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc

from deltaplane.v1 import delta_pb2 as pb

WATCH = "/deltaplane.v1.DeltaService/Watch"
MOST = (1 << 31) - 1  # bytes, of a window of HTTP/2
Alter = Callable[[bytes], Sequence[bytes]]


def watch(channel: grpc.Channel, requests: Any) -> Any:
    """The answers' bytes."""
    call: Any = channel.stream_stream(WATCH)
    return call(requests)


class Client:
    """One stream that says what the test says, and reads only when it is told to."""

    def __init__(self, address: str, name: str, **hello: Any) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 1 << 26)]
        self._channel = grpc.insecure_channel(address, options)
        self._said: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.hello = pb.Hello(node_name=name, protocol_min=1, protocol_max=1, **hello)
        self.say(hello=self.hello)
        self.stream: Any = watch(self._channel, iter(self._said.get, None))

    def say(self, **fields: Any) -> None:
        self._said.put(pb.WatchRequest(**fields).SerializeToString())

    def read(self) -> pb.WatchResponse:
        """The next message. Raises grpc.RpcError where the stream ends."""
        return pb.WatchResponse.FromString(next(self.stream))

    def until(self, *kinds: str) -> pb.WatchResponse:
        while (message := self.read()).WhichOneof("message") not in kinds:
            pass
        return message

    def acknowledge(self, rev: int) -> None:
        self.say(ack=pb.Ack(received_rev=rev, applied_rev=rev))

    def close(self) -> None:
        self._said.put(None)
        self.stream.cancel()
        self._channel.close()


@contextmanager
def client(address: str, name: str, **hello: Any) -> Iterator[Client]:
    made = Client(address, name, **hello)
    try:
        yield made
    finally:
        made.close()


class Raw:
    """An agent by hand, on a unix socket: gRPC's library reads by itself, this reads what it is told to.

    Frames as in RFC 9113. `window`: bytes that HTTP/2 lets the replica send.
    """

    def __init__(self, address: str, name: str, window: int) -> None:
        hello = pb.WatchRequest(hello=pb.Hello(node_name=name, protocol_min=1, protocol_max=1)).SerializeToString()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(address.removeprefix("unix://"))
        self._socket.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + _frame(4, 0, 0, struct.pack(">HI", 4, window))  # SETTINGS_INITIAL_WINDOW_SIZE
            + _frame(8, 0, 0, struct.pack(">I", MOST - 65_535))
            + _frame(1, 4, 1, _headers())
            + _frame(0, 0, 1, b"\0" + struct.pack(">I", len(hello)) + hello)
        )
        self.got = 0

    def read(self, size: int) -> None:
        """Takes so many bytes at most."""
        self.got += len(self._socket.recv(size))

    def close(self) -> None:
        self._socket.close()


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return struct.pack(">I", len(content))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + content


def _headers() -> bytes:
    """HPACK: POST and http by their indices, the others as literals that nobody indexes."""
    said = {":path": WATCH, ":authority": "replica", "te": "trailers", "content-type": "application/grpc"}
    words = [word.encode() for pair in said.items() for word in pair]
    parts = [bytes((len(word),)) + word for word in words]
    return b"\x83\x86" + b"".join(b"\0" + name + value for name, value in zip(parts[::2], parts[1::2], strict=True))


@contextmanager
def raw(address: str, name: str, window: int = MOST) -> Iterator[Raw]:
    made = Raw(address, name, window)
    try:
        yield made
    finally:
        made.close()


class Relay:
    """Passes streams on to `address`.

    `alter` gives what becomes of each message to the agent, `said` of each of the agent's.
    """

    def __init__(self, folder: Path, address: str, alter: Alter, said: Alter) -> None:
        self.address = f"unix://{folder}/relay"
        self.alter, self.said = alter, said
        self.streams = 0
        self.bytes = self.messages = 0
        self._channel = grpc.insecure_channel(address)
        self._server = grpc.server(ThreadPoolExecutor(8))
        handlers: Any = {"Watch": grpc.stream_stream_rpc_method_handler(self._watch)}
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("deltaplane.v1.DeltaService", handlers),)
        )
        self._server.add_insecure_port(self.address)
        self._server.start()
        self._lock = threading.Lock()

    def _watch(self, requests: Any, context: Any) -> Iterator[bytes]:
        self.streams += 1
        upstream = watch(self._channel, (altered for data in requests for altered in self.said(data)))
        context.add_callback(upstream.cancel)
        with suppress(grpc.RpcError):
            for data in upstream:
                with self._lock:
                    altered = list(self.alter(data))
                    self.messages += len(altered)
                    self.bytes += sum(map(len, altered))
                yield from altered

    def close(self) -> None:
        self._server.stop(0).wait()
        self._channel.close()


@contextmanager
def relay(
    folder: Path, address: str, alter: Alter = lambda data: [data], said: Alter = lambda data: [data]
) -> Iterator[Relay]:
    made = Relay(folder, address, alter, said)
    try:
        yield made
    finally:
        made.close()


def kind(data: bytes) -> str:
    return pb.WatchResponse.FromString(data).WhichOneof("message") or ""
