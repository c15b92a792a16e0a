"""Sends one real packet from whoever has an address on this node: itself, or a pod by its network namespace."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import closing, suppress
from ipaddress import ip_address
from pathlib import Path

from deltaplane.model import Protocol
from nodeagent.linux import netns
from nodeagent.linux.netlink import rtnetlink as rt
from nodeagent.linux.netlink import wire
from nodeagent.linux.netlink.socket import NetlinkProtocol, NetlinkSocket
from nodeagent.tracing.flow import Flow

PATIENCE = 3.0  # seconds for an answer, at most
_NAMED, _PROCESSES = Path("/run/netns"), Path("/proc")
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends a reset
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_KINDS = {Protocol.TCP: socket.SOCK_STREAM, Protocol.UDP: socket.SOCK_DGRAM, Protocol.SCTP: socket.SOCK_STREAM}


class NotHere(LookupError):
    """Nobody on this node has the address."""


def opened(flow: Flow) -> socket.socket:
    """A socket bound to the flow's source: on this node, or in a network namespace with a link to this one.

    Raises `NotHere`, OSError.
    """
    home = netns.opened()
    try:
        for path in _namespaces():
            with suppress(OSError), path.open("rb") as space, netns.inside(space.fileno()):
                made = _bound(flow)
                if _is_next_to(home, space.fileno()):
                    return made
                made.close()
    finally:
        os.close(home)
    raise NotHere(
        f"no network namespace that is seen from here has {ip_address(flow.source)}; a container sees those of other "
        "pods only with hostPID"
    )


def _is_next_to(home: int, here: int) -> bool:
    """Whether the namespace that the thread is in is the first one, or has a link whose other end is there."""
    if os.path.samestat(os.fstat(home), os.fstat(here)):
        return True
    with closing(NetlinkSocket(NetlinkProtocol.ROUTE)) as route:
        asked = wire.frame(rt.GET_NAMESPACE, wire.REQUEST, 1, rt.namespace(home))
        number = rt.read_namespace(next(route.ask(asked)).body)
        links = route.ask(wire.frame(rt.GET_LINK, wire.REQUEST | wire.DUMP, 2, rt.all_links()))
        return number >= 0 and any(rt.read_peers(link.body) == number for link in links)


def _namespaces() -> Iterator[Path]:
    """This thread's first, those with names, then those of processes; each once."""
    seen: set[tuple[int, int]] = set()
    named = sorted(_NAMED.iterdir()) if _NAMED.is_dir() else []
    processes = (each / "ns/net" for each in _PROCESSES.iterdir() if each.name.isdigit())
    for path in (_PROCESSES / "thread-self/ns/net", *named, *processes):
        with suppress(OSError):
            found = path.stat()
            if (found.st_dev, found.st_ino) not in seen:
                seen.add((found.st_dev, found.st_ino))
                yield path


def _bound(flow: Flow) -> socket.socket:
    protocol = Protocol(flow.protocol)
    number = socket.IPPROTO_SCTP if protocol is Protocol.SCTP else 0
    made = socket.socket(_FAMILIES[flow.family], _KINDS[protocol] | socket.SOCK_CLOEXEC, number)
    try:
        made.bind((str(ip_address(flow.source)), 0))
    except OSError:
        made.close()
        raise
    return made


def sent(flow: Flow, opened: socket.socket, timeout: float) -> str:
    """Connects, or sends one empty datagram, and says what came of it. The socket is closed, a connection reset."""
    with closing(opened):
        opened.settimeout(min(timeout, PATIENCE))
        try:
            opened.connect((str(ip_address(flow.address)), flow.port))
            if flow.protocol != Protocol.UDP:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                return "connected"
            opened.send(b"")
            opened.recv(1)
        except TimeoutError:
            return "no answer"
        except OSError as error:
            return "refused" if isinstance(error, ConnectionRefusedError) else os.strerror(error.errno or 0)
        return "answered"
