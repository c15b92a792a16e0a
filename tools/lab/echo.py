"""Echo servers in any namespace, all driven by one thread of this process.

A TCP server says `<its name> <the client's address>` and a newline when a connection opens, and again for every piece
of data that arrives on it; it never closes first. A UDP server answers every datagram so. One reply thus shows which
endpoint was chosen and whether the source was translated. Called by tests, demo and benchmark; knows no Services.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tools.lab.fabric import Pod
from tools.lab.netns import Namespace

LINGER_RESET = struct.pack("ii", 1, 0)  # closing sends a reset: no TIME_WAIT holds the port


@dataclass
class Server:
    """One listening address. `connections` and `served` are for reading only."""

    name: str
    protocol: str
    address: str
    port: int
    listener: socket.socket
    connections: set[socket.socket] = field(default_factory=set)
    served: int = 0


def kind_of(protocol: str) -> int:
    """The type of its sockets. SCTP, where the kernel has it, is used one connection to a socket, as TCP is."""
    return {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "sctp": socket.SOCK_STREAM}[protocol]


def number_of(protocol: str) -> int:
    """Which of the protocols of that type; 0: the usual one."""
    return socket.IPPROTO_SCTP if protocol == "sctp" else 0


def family_of(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class EchoServers:
    """Start with `start`, end with `stop` or `close`. The calls are safe from any thread and wait until done."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._orders: list[tuple[Callable[[], None], threading.Event]] = []
        self._wake_out, self._wake_in = os.pipe()
        self._selector.register(self._wake_out, selectors.EVENT_READ, self._obey)
        self._servers: list[Server] = []
        self._open = True
        self._thread = threading.Thread(target=self._run, name="echo", daemon=True)
        self._thread.start()

    def start(self, space: Namespace, address: str, port: int, protocol: str = "tcp", name: str = "") -> Server:
        """Listens on that address in that namespace; the answer begins with `name` (default: the namespace's)."""
        listener = space.socket(family_of(address), kind_of(protocol), number_of(protocol))
        try:
            listener.setblocking(False)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, port))
            if protocol != "udp":
                listener.listen(4096)
        except OSError as failure:
            listener.close()
            raise OSError(
                failure.errno, f"echo on {space.name} {protocol} {address}:{port}: {failure.strerror}"
            ) from failure
        server = Server(name or space.name, protocol, address, port, listener)
        act = self._answer_datagram if protocol == "udp" else self._accept
        self._ask(lambda: self._watch(listener, lambda: act(server)))
        self._servers.append(server)
        return server

    def start_pod(self, pod: Pod, port: int = 8080, protocols: Iterable[str] = ("tcp", "udp")) -> list[Server]:
        """The pod answers on this port in both families, by its own name."""
        return [self.start(pod.space, at, port, how, pod.name) for how in protocols for at in (pod.v4, pod.v6)]

    def stop(self, server: Server) -> None:
        """Stops listening and resets what is connected."""
        self._servers.remove(server)
        self._ask(lambda: self._end(server))

    def stop_pod(self, pod: Pod) -> None:
        for server in [server for server in self._servers if server.name == pod.name]:
            self.stop(server)

    def stop_all(self) -> None:
        for server in list(self._servers):
            self.stop(server)

    def close(self) -> None:
        if self._open:
            self.stop_all()
            self._ask(lambda: setattr(self, "_open", False))
            self._thread.join()
            self._selector.close()
            os.close(self._wake_in)
            os.close(self._wake_out)

    def _ask(self, act: Callable[[], None]) -> None:
        done = threading.Event()
        self._orders.append((act, done))
        os.write(self._wake_in, b"!")
        done.wait()

    def _run(self) -> None:
        while self._open:
            for key, _ in self._selector.select():
                # What was closed earlier in this same round is no longer registered.
                if self._selector.get_map().get(key.fd) is key:
                    with contextlib.suppress(OSError):
                        key.data()

    def _obey(self) -> None:
        os.read(self._wake_out, 1)
        act, done = self._orders.pop(0)
        try:
            act()
        finally:
            done.set()

    def _watch(self, sock: socket.socket, act: Callable[[], None]) -> None:
        self._selector.register(sock, selectors.EVENT_READ, act)

    def _end(self, server: Server) -> None:
        for connection in list(server.connections):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
            self._drop(server, connection)
        self._selector.unregister(server.listener)
        server.listener.close()

    def _drop(self, server: Server, connection: socket.socket) -> None:
        server.connections.discard(connection)
        self._selector.unregister(connection)
        connection.close()

    def _accept(self, server: Server) -> None:
        connection, peer = server.listener.accept()
        line = f"{server.name} {peer[0]}\n".encode()
        connection.setblocking(False)
        server.connections.add(connection)
        server.served += 1
        self._watch(connection, lambda: self._answer(server, connection, line))
        connection.send(line)

    def _answer(self, server: Server, connection: socket.socket, line: bytes) -> None:
        try:
            data = connection.recv(65536)
            if data:
                connection.send(line)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(server, connection)

    def _answer_datagram(self, server: Server) -> None:
        _, peer = server.listener.recvfrom(65536)
        server.served += 1
        server.listener.sendto(f"{server.name} {peer[0]}\n".encode(), peer)
