"""Entries, and a dataplane on loopback sockets and kernels in memory."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address

from deltaplane.forwarding import (
    Entry,
    Frontend,
    FrontendKind,
    Masquerade,
    NodeForwarding,
    ServiceForwarding,
    Target,
    Verdict,
)
from deltaplane.model import Kind, ObjectKey
from nodeagent.dataplane.userspace.dataplane import UserspaceDataplane
from nodeagent.dataplane.userspace.iptables import IptablesRedirects
from nodeagent.dataplane.userspace.nft import NftRedirects
from nodeagent.dataplane.userspace.redirects import Redirects
from nodeagent.dataplane.userspace.settings import Settings
from nodeagent.dataplane.userspace.tracker import REDIRECTS

LOCAL = Settings(addresses=("127.0.0.1", "::1"), connect_timeouts=(0.2, 0.4), udp_idle=5.0)
KEY = ObjectKey(Kind.SERVICE, "default", "web")


def packed(text: str) -> bytes:
    return ip_address(text).packed


def target(port: int, address: str = "127.0.0.1") -> Target:
    return Target(packed(address), port)


def vip(number: int = 1, protocol: int = 6, kind: FrontendKind = FrontendKind.CLUSTER_IP, family: int = 4) -> Frontend:
    address = f"172.30.0.{number}" if family == 4 else f"fd00:10:96::{number:x}"
    return Frontend(kind, family, packed(address), protocol, 80)


def node_port(protocol: int = 6, port: int = 30080) -> Frontend:
    return Frontend(FrontendKind.NODE_PORT, 4, b"", protocol, port)


def entry(frontend: Frontend, *targets: Target) -> Entry:
    verdict = Verdict.FORWARD if targets else Verdict.REJECT
    return Entry(frontend, "p", tuple(sorted(targets)), verdict, Masquerade.OFF_CLUSTER)


def service(*entries: Entry, name: str = "web") -> ServiceForwarding:
    return ServiceForwarding(KEY._replace(name=name), entries)


@contextmanager
def running(redirects: Redirects | None, settings: Settings = LOCAL) -> Iterator[UserspaceDataplane]:
    made = UserspaceDataplane(settings, redirects)
    made.start()
    try:
        yield made
    finally:
        made.close()


class Server:
    """Answers each connection (or datagram) on loopback with its name, until `close`."""

    def __init__(self, name: str, kind: int = socket.SOCK_STREAM) -> None:
        self.name = name.encode()
        self._socket = socket.socket(socket.AF_INET, kind)
        self._socket.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            self._socket.listen()
        self.target = target(self._socket.getsockname()[1])
        act = self._serve if kind == socket.SOCK_STREAM else self._answer
        self._thread = threading.Thread(target=act, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.sendall(self.name)

    def _answer(self) -> None:
        while True:
            try:
                _, peer = self._socket.recvfrom(512)
                self._socket.sendto(self.name, peer)
            except OSError:
                return

    def close(self) -> None:
        if self._socket.type == socket.SOCK_STREAM:
            self._socket.shutdown(socket.SHUT_RDWR)
        else:
            self._socket.close()
        self._thread.join(0.2)
        self._socket.close()


NODE = NodeForwarding((packed("192.0.2.1"),), service_cidrs=("172.30.0.0/16",))
A, B = target(9), target(10)  # nobody listens there
Make = Callable[[], Redirects]


class Nft(NftRedirects):
    """Listeners are at localhost, which is there."""

    def place(self, family: int) -> bytes:
        return packed("127.0.0.1" if family == 4 else "::1")


class Iptables(IptablesRedirects):
    def place(self, family: int) -> bytes:
        return packed("127.0.0.1" if family == 4 else "::1")


def leads_to(redirects: Redirects, number: int = 1) -> int:
    """The listener's port that a redirect of 172.30.0.<number> TCP 80 leads to."""
    for slot, placement in redirects.read().items():
        if slot[1:5] == packed(f"172.30.0.{number}") and dict(placement).get(REDIRECTS):
            return int.from_bytes(bytes(dict(placement)[REDIRECTS])[4:6], "big")  # type: ignore[arg-type]
    return 0
