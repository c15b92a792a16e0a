"""The proxy: a thread with an event loop of its own that holds all listeners. Called by `dataplane` from its thread.

Every call waits until the loop has done it, so that a redirect written after it leads to a listener that is there. The
thread is in the network namespace of the one that started it, and so are its sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import resource
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import NamedTuple, TypeVar
from weakref import WeakValueDictionary

from msgspec import Struct

from deltaplane.model import ObjectKey, Protocol
from nodeagent.dataplane.userspace import sockets
from nodeagent.dataplane.userspace.balancer import Balancer, Clients
from nodeagent.dataplane.userspace.connection_limits import ConnectionLimits
from nodeagent.dataplane.userspace.plan import Line, Port
from nodeagent.dataplane.userspace.settings import Settings
from nodeagent.dataplane.userspace.tcp import TcpListener
from nodeagent.dataplane.userspace.udp import Flows, UdpListener
from nodeagent.errors import KernelUnavailable

log = logging.getLogger(__name__)

_TAKEN = (errno.EADDRINUSE, errno.EACCES)
_WAIT = 30.0  # seconds; the loop never does anything long

_T = TypeVar("_T")
Place = tuple[bytes, int]  # an address, packed, and a port number; 0: any


class Order(NamedTuple):
    """What a listener is to do and, where it is not open yet, where to open it; number 0 takes any."""

    line: Line
    place: Place


class Count(Struct, frozen=True):
    """How much there is at the moment; the last four are since the start."""

    listeners: int
    connections: int
    flows: int
    waiting: int  # listeners that do not accept, since there are as many connections as allowed
    held: int  # bytes taken from one end of a connection and not yet taken by the other
    failed: int  # clients that no endpoint was found for
    connected: int  # TCP connections taken
    clients: int  # UDP clients
    crowded: int  # TCP connections that were reset, because their client had its share


class Proxy:
    """Listeners by their port. All methods are called from one thread, which is not the loop's."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_complain)
        self._limits = ConnectionLimits(self._loop, settings, _allow_files(), self._sockets)
        self._flows = Flows(self._limits)
        self._listeners: dict[Port, TcpListener | UdpListener] = {}
        self._clients: WeakValueDictionary[tuple[ObjectKey, str, int, int], Clients] = WeakValueDictionary()
        self._thread = threading.Thread(target=self._loop.run_forever, name="userspace-proxy", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _sockets(self) -> int:
        """Those of listeners and UDP clients."""
        return len(self._listeners) + len(self._flows)

    def close(self) -> None:
        """Ends every listener and connection, and the thread."""
        if self._thread.is_alive():
            self._do(self._end)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    def serve(self, orders: Mapping[Port, Order]) -> dict[Port, int | str]:
        """Opens listeners and gives open ones their lists; the number each has, or why it could not be opened."""
        return self._do(lambda: {port: self._serve(port, order) for port, order in orders.items()}) if orders else {}

    def retire(self, ports: Iterable[Port]) -> None:
        """Closes listeners; established TCP connections go on."""
        gone = list(ports)
        if gone:
            self._do(lambda: self._retire(gone))

    def count(self) -> Count:
        """How much there is."""
        return self._do(self._count)

    def _do(self, act: Callable[[], _T]) -> _T:
        """Has the loop do something and waits. Raises what it raises, KernelUnavailable where the loop has ended."""
        result: Future[_T] = Future()

        def body() -> None:
            try:
                result.set_result(act())
            except BaseException as error:  # noqa: BLE001 - carried over to the caller's thread, whatever it is
                result.set_exception(error)

        try:
            self._loop.call_soon_threadsafe(body)
            return result.result(_WAIT)
        except (RuntimeError, TimeoutError) as error:
            raise KernelUnavailable(f"userspace: the proxy does not answer ({error!r}); it is retried") from error

    # ------------------------------------------------------------ in the loop

    def _serve(self, port: Port, order: Order) -> int | str:
        listener = self._listeners.get(port)
        if listener is None:
            try:
                listener = self._open(port, order.place)
            except OSError as error:
                return sockets.reason(error)
            self._listeners[port] = listener
        line = order.line
        clients = self._clients_of(port) if line.affinity else None
        listener.balancer.set(line.targets, line.affinity, clients)
        if isinstance(listener, UdpListener):
            listener.updated(line.serving)
        return listener.number

    def _open(self, port: Port, place: Place) -> TcpListener | UdpListener:
        try:
            bound = sockets.listening(port, place, self._settings)
        except OSError as error:
            if error.errno not in _TAKEN or not place[1]:
                raise
            bound = sockets.listening(port, (place[0], 0), self._settings)
        return self._listener(port, bound, Balancer(self._settings.suspect_seconds))

    def _listener(self, port: Port, bound: socket.socket, balancer: Balancer) -> TcpListener | UdpListener:
        if port.protocol == Protocol.UDP:
            return UdpListener(port, bound, balancer, self._flows)
        return TcpListener(port, bound, balancer, self._limits)

    def _clients_of(self, port: Port) -> Clients:
        """Who was sent where, shared by all listeners of a service port (H2)."""
        key = (port.owner, port.name, port.family, port.protocol)
        clients = self._clients.get(key)
        if clients is None:
            clients = self._clients[key] = Clients(self._settings.max_clients)
        return clients

    def _retire(self, ports: Iterable[Port]) -> None:
        for port in ports:
            listener = self._listeners.pop(port, None)
            if listener is not None:
                listener.balancer.set((), 0, None)
                listener.close()

    def _count(self) -> Count:
        limits, flows = self._limits, self._flows
        return Count(
            listeners=len(self._listeners),
            connections=len(limits.guests),
            flows=len(flows),
            waiting=len(limits.waiting),
            held=limits.held,
            failed=limits.failed,
            connected=limits.entered,
            clients=flows.opened,
            crowded=limits.crowded,
        )

    def _end(self) -> None:
        self._retire(list(self._listeners))
        self._flows.close()
        self._limits.close()


def _allow_files() -> int:
    """Every connection takes two files: as many as this process may have at all; how many that are."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return allowed if allowed != resource.RLIM_INFINITY else 1 << 20


def _complain(_: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """One connection's defect is reported and leaves the others alone."""
    error = context.get("exception")
    log.error("userspace proxy: %s", context.get("message"), exc_info=error if isinstance(error, Exception) else None)
