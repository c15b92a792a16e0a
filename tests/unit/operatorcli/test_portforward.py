"""A port-forward's thread ends with its connection, says why, and leaves no socket open."""

from __future__ import annotations

import gc
import socket
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes.stream import ws_client
from websocket import ABNF

from operatorcli.connect import portforward

PORT = 50051


class Websocket:
    """As much of websocket.WebSocket as the client's thread uses; its peer is `far`. Frames come from `frames`."""

    def __init__(self) -> None:
        self.sock, self.far = socket.socketpair()
        self.connected = True
        self.frames = [(ABNF.OPCODE_BINARY, channel + PORT.to_bytes(2, "little")) for channel in (b"\0", b"\1")]

    def fileno(self) -> int:
        return self.sock.fileno()

    def recv_data_frame(self, _: bool) -> tuple[int, Any]:
        self.sock.recv(1)
        code, data = self.frames.pop(0)
        return code, ABNF(data=data, opcode=code)

    def close(self) -> None:
        self.connected = False

    def shutdown(self) -> None:
        self.connected = False
        self.sock.close()


@pytest.fixture
def peer() -> Iterator[Websocket]:
    made = Websocket()
    yield made
    made.far.close()


@pytest.fixture
def connection(peer: Websocket, monkeypatch: pytest.MonkeyPatch) -> Iterator[portforward.Connection]:
    monkeypatch.setattr(ws_client, "create_websocket", lambda *_: peer)
    made = portforward.Connection(Method().connect, "pod", "space", PORT)
    yield made
    made.socket.close()


class Method:
    """A generated method and its client, as the websocket's functions use them."""

    def __init__(self) -> None:
        self.api_client: Any = self
        self.configuration = None

    def call_api(self, *_: Any) -> Any:
        raise AssertionError

    def connect(self, pod: str, namespace: str, ports: str, **_: Any) -> Any:
        assert (pod, namespace, ports) == ("pod", "space", str(PORT))
        return self.call_api("GET", "https://api/portforward", {}).response


def ended(peer: Websocket) -> None:
    until = time.monotonic() + 20
    while peer.sock.fileno() != -1:
        assert time.monotonic() < until
        time.sleep(0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gc.collect()


def test_a_near_side_that_closes_with_bytes_unread_ends_it_quietly(
    connection: portforward.Connection, peer: Websocket
) -> None:
    peer.frames.append((ABNF.OPCODE_BINARY, b"\0unread"))
    peer.far.send(b"...")  # one for each frame
    connection.socket.recv(1, socket.MSG_PEEK)
    connection.socket.close()

    ended(peer)
    assert isinstance(connection.failure(), ConnectionResetError)


def test_an_api_server_that_is_gone_ends_it_and_the_near_side_hears_so(
    connection: portforward.Connection, peer: Websocket
) -> None:
    peer.far.shutdown(socket.SHUT_RD)
    connection.socket.send(b"to nobody")

    assert connection.socket.recv(1) == b""
    ended(peer)
    assert connection.failure() is not None


def test_frames_that_nobody_expects_end_it_and_are_told(connection: portforward.Connection, peer: Websocket) -> None:
    peer.frames[0] = (ABNF.OPCODE_BINARY, b"\x07")
    peer.far.send(b".")

    assert connection.socket.recv(1) == b""
    assert str(connection.failure()) == "Unexpected channel number: 7"


def test_the_kubelets_words_come_before_the_sockets(connection: portforward.Connection, peer: Websocket) -> None:
    peer.frames.append((ABNF.OPCODE_BINARY, b"\1connection\n refused"))
    peer.far.send(b"...")

    assert connection.socket.recv(1) == b""
    assert str(connection.failure()) == "connection refused"
