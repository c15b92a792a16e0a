"""Where the page is served: `--http-listen`, which address goes with which security, and how it is bound."""

from __future__ import annotations

import asyncio
import logging
from ipaddress import ip_address
from urllib.parse import urlsplit

from controlplane.errors import ControlPlaneError
from controlplane.identity.peer import Way
from controlplane.page.http import BACKLOG, REQUEST_BYTES, Server
from deltaplane.flags import host_port, is_socket
from deltaplane.logs import event
from deltaplane.sockets import private, taken

log = logging.getLogger(__name__)


def unfit(place: str, way: Way, *, insecure: bool) -> str:
    """Why the page cannot be there; empty: it can. HTTP is plain text here, and people's tokens travel on it."""
    if is_socket(place) or insecure:
        return ""
    if way is Way.SOCKET:
        return "whoever opens --listen's socket is believed, which goes for no port: give unix:///PATH, or --insecure"
    if not loopback(host_port(place)[0]):
        return "the page is plain text: give a loopback address such as 127.0.0.1 (and kubectl port-forward), or unix:///PATH"
    return ""


def loopback(host: str) -> bool:
    """Whether the host is an address of this machine that no other reaches."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def bound(place: str, server: Server) -> asyncio.Server:
    """Listens. Raises `ControlPlaneError`."""
    try:
        return await _bound(place, server)
    except OSError as error:
        why = error.strerror or error
        raise ControlPlaneError(f"--http-listen={place}: {why}; free the address or name another") from error


async def _bound(place: str, server: Server) -> asyncio.Server:
    if not is_socket(place):
        host, port = host_port(place)
        return await asyncio.start_server(server.connected, host or None, port, limit=REQUEST_BYTES, backlog=BACKLOG)
    if taken(place):
        raise ControlPlaneError(f"--http-listen={place}: another program listens there")
    with private():
        path = urlsplit(place).path
        return await asyncio.start_unix_server(server.connected, path, limit=REQUEST_BYTES, backlog=BACKLOG)


async def serve(place: str, server: Server) -> None:
    """Serves until cancelled. Raises `ControlPlaneError` where it cannot listen."""
    listening = await bound(place, server)
    event(log, logging.INFO, "the page is served", listen=place)
    try:
        await asyncio.Event().wait()
    finally:
        listening.close()
        server.close()
