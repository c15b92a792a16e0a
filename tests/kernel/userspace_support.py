"""What the userspace kernel tests share: a dataplane in a namespace, and servers that do more than echo."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from deltaplane.forwarding import Entry, Frontend, FrontendKind, ServiceForwarding
from deltaplane.model import Kind, ObjectKey
from nodeagent.dataplane.userspace.cleanup import cleanup
from nodeagent.dataplane.userspace.dataplane import UserspaceDataplane
from nodeagent.dataplane.userspace.settings import Settings
from tests.kernel.nftables_support import packed
from tools.lab.echo import LINGER_RESET, family_of
from tools.lab.fabric import CLUSTER_CIDRS
from tools.lab.netns import Namespace

KEY = ObjectKey(Kind.SERVICE, "default", "web")
SETTINGS = Settings(CLUSTER_CIDRS, udp_idle=5.0)


def vip(family: int) -> str:
    return "172.30.0.1" if family == 4 else "fd00:10:96::1"


def cluster_ip(family: int, number: int = 6) -> Frontend:
    return Frontend(FrontendKind.CLUSTER_IP, family, packed(vip(family)), number, 80)


def node_port(family: int, number: int = 6) -> Frontend:
    return Frontend(FrontendKind.NODE_PORT, family, b"", number, 30080)


def service(*entries: Entry, name: str = "web") -> ServiceForwarding:
    return ServiceForwarding(KEY._replace(name=name), entries)


@contextmanager
def userspace(space: Namespace, settings: Settings = SETTINGS) -> Iterator[UserspaceDataplane]:
    """A started dataplane with its listeners in this namespace; what it leaves is taken away."""
    made = UserspaceDataplane(settings)
    with space.entered():
        made.start()
    try:
        yield made
    finally:
        made.close()
        with space.entered():
            cleanup(settings)


@contextmanager
def server(space: Namespace, address: str, port: int = 8080) -> Iterator[socket.socket]:
    """A listening TCP socket in a namespace whose connections the test takes itself."""
    with space.socket(family_of(address), socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(64)
        listener.settimeout(10)
        yield listener


def client(space: Namespace, address: str, port: int) -> socket.socket:
    """A connected TCP socket from a namespace."""
    made = space.socket(family_of(address), socket.SOCK_STREAM)
    made.settimeout(10)
    made.connect((address, port))
    return made


def read_all(connection: socket.socket) -> bytes:
    """Everything up to the other side's end."""
    found = bytearray()
    while data := connection.recv(1 << 16):
        found += data
    return bytes(found)


def in_background(act: threading.Thread) -> threading.Thread:
    act.daemon = True
    act.start()
    return act


def abandon(connection: socket.socket) -> None:
    """Closes with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    connection.close()
