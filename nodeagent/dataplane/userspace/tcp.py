"""A TCP listener: takes connections, finds each an endpoint that answers, and lets a relay carry the bytes.

Runs in the proxy's loop. Until an endpoint has answered nothing is read from the client: what it sends meanwhile waits
in the kernel, and so any number of endpoints can be tried without having lost a byte.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from ipaddress import ip_address

from deltaplane.forwarding import Target
from deltaplane.logs import event
from nodeagent.dataplane.userspace import sockets
from nodeagent.dataplane.userspace.balancer import Balancer
from nodeagent.dataplane.userspace.connection_limits import ConnectionLimits
from nodeagent.dataplane.userspace.plan import Port
from nodeagent.dataplane.userspace.relay import Relay

log = logging.getLogger(__name__)

ACCEPTS = 64  # connections taken from a listener before others get their turn


class TcpListener:
    """One listener; `balancer` is changed by its owner at any time."""

    def __init__(self, port: Port, bound: socket.socket, balancer: Balancer, limits: ConnectionLimits) -> None:
        self.port, self.balancer, self.limits = port, balancer, limits
        self._socket = bound
        self.listen()

    @property
    def number(self) -> int:
        return int(self._socket.getsockname()[1])

    def listen(self) -> None:
        """Takes connections (again)."""
        if self._socket.fileno() >= 0:
            self.limits.loop.add_reader(self._socket.fileno(), self._accept)

    def close(self) -> None:
        """Takes no more; what is established goes on."""
        self.limits.loop.remove_reader(self._socket.fileno())
        self.limits.waiting.discard(self)
        self._socket.close()

    def _accept(self) -> None:
        for _ in range(ACCEPTS):
            if not self.limits.free:
                self._wait()
                return
            try:
                client, peer = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                self._refused(error)
                return
            if not self.limits.admits(str(peer[0])):
                sockets.reset(client)
                continue
            client.setblocking(False)
            _Attempt(self, client, str(peer[0]))

    def _refused(self, error: OSError) -> None:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
            self._wait()
            self.limits.try_again_later()

    def _wait(self) -> None:
        """The kernel queues what comes until a connection is free."""
        self.limits.loop.remove_reader(self._socket.fileno())
        self.limits.wait(self)


class _Attempt:
    """A client that waits for an endpoint."""

    held = 0

    def __init__(self, listener: TcpListener, client: socket.socket, name: str) -> None:
        self._listener, self._client, self._name = listener, client, name
        self._limits = listener.limits
        self._tried: dict[Target, bool] = {}  # whether it was silent, and may be asked again with more patience
        self._silent = 0  # tries that ended by time
        self._upstream: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._limits.enter(self, name)
        self._next()

    def _next(self) -> None:
        """Tries endpoints until one is on its way; gives up where none is left."""
        while (target := self._pick()) is not None:
            if self._started(target):
                return
        self._limits.failed += 1
        self.abort()

    def _pick(self) -> Target | None:
        if self._silent == len(self._limits.settings.connect_timeouts):
            return None
        balancer, now = self._listener.balancer, self._limits.loop.time()
        target = balancer.choose(self._name, self._tried, now)
        if target is None and self._silent:
            self._tried = {other: False for other, silent in self._tried.items() if not silent}
            target = balancer.choose(self._name, self._tried, now)
        return target

    def _started(self, target: Target) -> bool:
        """Whether an endpoint may still answer."""
        try:
            made, code = sockets.upstream(self._listener.port, target, self._limits.settings.mark)
        except OSError:
            self._tried[target] = True
            self._silent += 1
            return False
        if code not in (0, errno.EINPROGRESS):
            made.close()
            self._failed(target, silent=False)
            return False
        self._upstream = made
        self._limits.loop.add_writer(made.fileno(), self._answered, target)
        patience = self._limits.settings.connect_timeouts[self._silent]
        self._timer = self._limits.loop.call_later(patience, self._late, target)
        return True

    def _failed(self, target: Target, *, silent: bool) -> None:
        self._tried[target] = silent
        self._listener.balancer.failed(target, self._limits.loop.time())

    def _late(self, target: Target) -> None:
        self._let_go()
        self._silent += 1
        self._failed(target, silent=True)
        self._next()

    def _answered(self, target: Target) -> None:
        made, balancer = self._upstream, self._listener.balancer
        if made is None:
            return
        if made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._let_go()
            self._failed(target, silent=False)
            self._next()
        elif target not in balancer.targets:  # removed meanwhile: no new connection goes there
            self._let_go()
            self._tried[target] = False
            self._next()
        else:
            balancer.worked(self._name, target, self._limits.loop.time())
            self._carry(made, target)

    def _carry(self, made: socket.socket, target: Target) -> None:
        self._unwatch(made)
        limits = self._limits
        over = self._telling(target) if log.isEnabledFor(logging.DEBUG) else limits.leave
        limits.replace(self, Relay(limits.loop, limits.pipes, (self._client, made), over))

    def _telling(self, target: Target) -> Callable[[Relay], None]:
        """For those who want to see the traffic: a line for every connection, when it is over."""
        began, port, limits, client = self._limits.loop.time(), self._listener.port, self._limits, self._name

        def over(relay: Relay) -> None:
            limits.leave(relay)
            event(
                log, logging.DEBUG, "connection is over", service=port.owner, port=port.name, client=client,
                endpoint=f"{ip_address(target.address)} {target.port}", to_endpoint=relay.carried[0],
                to_client=relay.carried[1], seconds=round(limits.loop.time() - began, 3),
            )  # fmt: skip

        return over

    def _unwatch(self, made: socket.socket) -> None:
        self._limits.loop.remove_writer(made.fileno())
        if self._timer is not None:
            self._timer.cancel()

    def _let_go(self) -> None:
        if self._upstream is not None:
            self._unwatch(self._upstream)
            sockets.reset(self._upstream)
            self._upstream = None

    def abort(self) -> None:
        """The client hears of it as a reset."""
        self._let_go()
        sockets.reset(self._client)
        self._limits.leave(self)
