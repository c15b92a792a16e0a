"""A UDP listener: each client gets an endpoint and a socket towards it, until neither has said anything for a while.

Runs in the proxy's loop. Datagrams pass through one buffer that all listeners share. A client whose endpoint refuses or
goes moves to the next one; the first datagram that was not answered is kept and moves with it.
"""

from __future__ import annotations

import errno
import socket
from collections import OrderedDict

from deltaplane.forwarding import Target
from nodeagent.dataplane.userspace import sockets
from nodeagent.dataplane.userspace.balancer import Balancer
from nodeagent.dataplane.userspace.connection_limits import ConnectionLimits
from nodeagent.dataplane.userspace.plan import Port

RECEIVES = 64  # datagrams taken from a socket before others get their turn
Peer = tuple[str | int, ...]  # what a socket calls the other side


class Flows:
    """Every client of every listener; of those that wait for an answer, and of the others, the longest silent first."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.buffer = bytearray(1 << 16)
        self.view = memoryview(self.buffer)
        self._idle: OrderedDict[Flow, None] = OrderedDict()
        self._waiting: OrderedDict[Flow, None] = OrderedDict()
        self._scheduled = False
        self.opened = 0  # clients since the start

    def __len__(self) -> int:
        return len(self._idle) + len(self._waiting)

    def make_room(self) -> None:
        """The one silent for longest gives way where there are too many."""
        full = len(self) >= self.limits.settings.max_flows or self.limits.spare < 1
        if full and len(self):
            next(iter(self._idle or self._waiting)).close()

    def touch(self, flow: Flow, *, answered: bool) -> None:
        """A client asked, or was answered, just now."""
        flow.last = self.limits.loop.time()
        now, before = (self._idle, self._waiting) if answered else (self._waiting, self._idle)
        before.pop(flow, None)
        now[flow] = None
        now.move_to_end(flow)
        self._forget_idle_later()

    def discard(self, flow: Flow) -> None:
        self._idle.pop(flow, None)
        self._waiting.pop(flow, None)

    def _forget_idle_later(self) -> None:
        if not self._scheduled and len(self):
            self._scheduled = True
            self.limits.loop.call_later(self.limits.settings.udp_idle / 2, self._forget_idle)

    def _forget_idle(self) -> None:
        self._scheduled = False
        settings, now = self.limits.settings, self.limits.loop.time()
        for flows, patience in ((self._idle, settings.udp_idle), (self._waiting, settings.udp_patience)):
            while flows and (flow := next(iter(flows))).last <= now - patience:
                flow.close()
        self._forget_idle_later()

    def close(self) -> None:
        for flow in [*self._idle, *self._waiting]:
            flow.close()


class UdpListener:
    """One listener; `balancer` is changed by its owner, who calls `updated` after that."""

    def __init__(self, port: Port, bound: socket.socket, balancer: Balancer, flows: Flows) -> None:
        self.port, self.balancer, self.shared = port, balancer, flows
        self.flows: dict[Peer, Flow] = {}
        self.socket = bound
        flows.limits.loop.add_reader(bound.fileno(), self._readable)

    @property
    def number(self) -> int:
        return int(self.socket.getsockname()[1])

    def close(self) -> None:
        """Hears no more; its clients are forgotten."""
        for flow in list(self.flows.values()):
            flow.close()
        self.shared.limits.loop.remove_reader(self.socket.fileno())
        self.socket.close()

    def updated(self, serving: tuple[Target, ...]) -> None:
        """Clients of endpoints that neither are in the list nor serve get another one, with what was not answered."""
        stay = {*self.balancer.targets, *serving}
        for flow in [flow for flow in self.flows.values() if flow.target not in stay]:
            flow.move_on()

    def _readable(self) -> None:
        buffer, view = self.shared.buffer, self.shared.view
        for _ in range(RECEIVES):
            try:
                size, peer = self.socket.recvfrom_into(buffer)
            except OSError:  # nothing more, or an error that a client's machine reported
                return
            flow = self.flows.get(peer) or self._open(peer)
            if flow is not None:
                flow.send(view[:size])

    def _open(self, peer: Peer) -> Flow | None:
        """A new client; None where no endpoint can be had."""
        self.shared.make_room()
        flow = Flow(self, peer)
        if not flow.move():
            self.shared.limits.failed += 1
            return None
        self.flows[peer] = flow
        self.shared.opened += 1
        return flow


class Flow:
    """One client and its endpoint."""

    def __init__(self, listener: UdpListener, peer: Peer) -> None:
        self._listener, self._peer, self._shared = listener, peer, listener.shared
        self._limits = listener.shared.limits
        self._tried: dict[Target, None] = {}
        self._open = b""  # the first datagram since the last answer
        self._upstream: socket.socket | None = None
        self.target = Target(b"", 0)
        self.last = self._limits.loop.time()

    def move(self) -> bool:
        """Goes to the next endpoint; false where all were tried."""
        self._let_go()
        balancer, now, name = self._listener.balancer, self._limits.loop.time(), str(self._peer[0])
        while (target := balancer.choose(name, self._tried, now)) is not None:
            self._tried[target] = None
            try:
                made, code = sockets.upstream(self._listener.port, target, self._limits.settings.mark)
            except OSError:
                return False
            if not code:
                balancer.worked(name, target, now)
                self.target, self._upstream = target, made
                self._limits.loop.add_reader(made.fileno(), self._readable)
                return True
            made.close()
            balancer.failed(target, now)
        return False

    def send(self, data: memoryview) -> None:
        """A datagram from the client."""
        self._open = self._open or bytes(data)
        self._shared.touch(self, answered=False)
        self._forward(data)

    def _forward(self, data: memoryview | bytes) -> None:
        while self._upstream is not None:
            try:
                self._upstream.send(data)
            except OSError as error:
                if error.errno == errno.ECONNREFUSED and self._refused():
                    data = self._open
                    continue
            return

    def _readable(self) -> None:
        buffer, view, upstream = self._shared.buffer, self._shared.view, self._upstream
        for _ in range(RECEIVES):
            if upstream is None:
                return
            try:
                size = upstream.recv_into(buffer)
            except BlockingIOError:
                return
            except OSError:
                if self._refused():
                    self._forward(self._open)
                return
            self._reply(view[:size])

    def _reply(self, data: memoryview) -> None:
        self._open = b""
        self._tried.clear()
        self._shared.touch(self, answered=True)
        try:
            self._listener.socket.sendto(data, self._peer)
        except OSError:
            return  # the client's datagrams are lost as any network may lose them

    def _refused(self) -> bool:
        """The endpoint refuses: whether there is another one for what was not answered."""
        self._listener.balancer.failed(self.target, self._limits.loop.time())
        if self._open and self.move():
            return True
        self.close()
        return False

    def move_on(self) -> None:
        """The endpoint is gone."""
        if self._open and self.move():
            self._forward(self._open)
        else:
            self.close()

    def _let_go(self) -> None:
        if self._upstream is not None:
            self._limits.loop.remove_reader(self._upstream.fileno())
            self._upstream.close()
            self._upstream = None

    def close(self) -> None:
        self._let_go()
        self._shared.discard(self)
        self._listener.flows.pop(self._peer, None)
