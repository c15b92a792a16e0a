"""Health check node ports: where a load balancer asks whether this node has endpoints of a Service (K1, K4, E14).

One listener for each address of each Service that wants one. `Wanted` is pure: it holds what Services want and says
what to open and to close. `HealthCheckNodePorts` is the edge that does it, and tries again what could not be opened.
The numbers are read at a request, so that a changed number costs nothing.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from ipaddress import ip_address
from typing import NamedTuple

from deltaplane.forwarding import HealthCheck, ServiceForwarding
from deltaplane.http1 import JSON
from deltaplane.logs import event
from deltaplane.model import ObjectKey
from nodeagent.dataplane.outcome import Failed
from nodeagent.web.server import Handler, Response, Server, listen

log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0
WILDCARDS = {4: "0.0.0.0", 6: "::"}  # noqa: S104 - where node ports answer on every address, so does this

Addresses = Mapping[int, tuple[bytes, ...] | None]
"""Family -> packed addresses that node ports answer on; None: all of the family."""
EVERYWHERE: Addresses = {4: None, 6: None}


class Listener(NamedTuple):
    """An address to be served for a Service."""

    service: ObjectKey
    family: int
    host: str
    port: int


class Wanted:
    """The health checks Services want, on the addresses node ports have."""

    def __init__(self, addresses: Addresses = EVERYWHERE) -> None:
        self._checks: dict[ObjectKey, HealthCheck] = {}
        self._addresses = addresses

    def update(self, forwardings: Iterable[ServiceForwarding]) -> bool:
        """Takes in what these Services mean now; whether listeners are to be opened or closed."""
        moved = False
        for forwarding in forwardings:
            key, now = forwarding.key, forwarding.health_check
            before = self._checks.get(key)
            moved |= _place(before) != _place(now)
            if now is None:
                self._checks.pop(key, None)
            else:
                self._checks[key] = now
        return moved

    def keep(self, names: Collection[ObjectKey]) -> bool:
        """There are no Services but these; whether listeners are to be closed."""
        gone = [service for service in self._checks if service not in names]
        for service in gone:
            del self._checks[service]
        return bool(gone)

    def move(self, addresses: Addresses) -> bool:
        """Node ports answer on these addresses now; whether that changes anything."""
        moved = addresses != self._addresses
        self._addresses = addresses
        return moved

    def local_ready(self, service: ObjectKey, family: int) -> int:
        """How many local ready endpoints the Service has in a family; 0 where it has no health check."""
        check = self._checks.get(service)
        return 0 if check is None else dict(check.local_ready).get(family, 0)

    def listeners(self) -> set[Listener]:
        return {
            Listener(service, family, host, check.port)
            for service, check in self._checks.items()
            for family, _ in check.local_ready
            for host in self._hosts(family)
        }

    def difference(self, open_now: Iterable[Listener]) -> tuple[list[Listener], list[Listener]]:
        """What to close, and what to open after that."""
        wanted, actual = self.listeners(), set(open_now)
        return sorted(actual - wanted), sorted(wanted - actual)

    def _hosts(self, family: int) -> list[str]:
        addresses = self._addresses.get(family)
        return [WILDCARDS[family]] if addresses is None else [str(ip_address(packed)) for packed in addresses]


def _place(check: HealthCheck | None) -> tuple[int, tuple[int, ...]] | None:
    return None if check is None else (check.port, tuple(family for family, _ in check.local_ready))


def answer(service: ObjectKey, local: int, *, healthy: bool) -> Response:
    """K1: 200 where there are endpoints and the proxy is healthy. Whether the node is eligible plays no part (K4)."""
    body = {
        "service": {"namespace": service.namespace, "name": service.name},
        "localEndpoints": local,
        "serviceProxyHealthy": healthy,
    }
    headers = (("X-Content-Type-Options", "nosniff"), ("X-Load-Balancing-Endpoint-Weight", str(local)))
    return Response(json.dumps(body, indent="\t"), 200 if local and healthy else 503, JSON, headers)


class HealthCheckNodePorts:
    """Serves the ports. `healthy` is the proxy's health as it is now. Call `run` as a task, the rest from its loop."""

    def __init__(self, healthy: Callable[[], bool], addresses: Addresses = EVERYWHERE, retry: float = RETRY_SECONDS):
        self._healthy = healthy
        self._wanted = Wanted(addresses)
        self._retry = retry
        self._open: dict[Listener, Server] = {}
        self._failed: dict[Listener, Failed] = {}
        self._moved = asyncio.Event()

    def update(self, forwardings: Iterable[ServiceForwarding], names: Collection[ObjectKey] | None = None) -> None:
        """What these Services mean now, after it is in the kernel; `names`: all that there are, if known."""
        gone = names is not None and self._wanted.keep(names)
        if self._wanted.update(forwardings) or gone:
            self._moved.set()

    def move(self, addresses: Addresses) -> None:
        """Node ports answer on these addresses now."""
        if self._wanted.move(addresses):
            self._moved.set()

    def failures(self) -> tuple[Failed, ...]:
        """Services whose port cannot be opened, once each; tried again until it can."""
        return tuple({failed.key: failed for _, failed in sorted(self._failed.items())}.values())

    async def run(self) -> None:
        """Opens and closes listeners until cancelled; then closes all."""
        try:
            while True:
                self._moved.clear()
                await self._reconcile()
                try:
                    async with asyncio.timeout(self._retry if self._failed else None):
                        await self._moved.wait()
                except TimeoutError:
                    continue
        finally:
            for server in self._open.values():
                server.close()
            self._open.clear()

    async def _reconcile(self) -> None:
        closing, opening = self._wanted.difference(self._open)
        for listener in closing:
            self._open.pop(listener).close()
            event(log, logging.INFO, "health check closed", service=listener.service, port=listener.port)
        for listener in self._failed.keys() - set(opening):
            del self._failed[listener]
        for listener in opening:
            await self._start(listener)

    async def _start(self, listener: Listener) -> None:
        try:
            server = Server(listen(listener.host, listener.port), self._handler(listener))
        except OSError as error:
            self._note(listener, error)
            return
        await server.start()
        self._open[listener] = server
        self._failed.pop(listener, None)
        where = f"{listener.host} {listener.port}"
        event(log, logging.INFO, "health check open", service=listener.service, address=where)

    def _note(self, listener: Listener, error: OSError) -> None:
        reason = os.strerror(error.errno) if error.errno else str(error)
        text = f"health check node port {listener.port} on {listener.host}: {reason}; retrying"
        code = "CONFLICT" if error.errno == errno.EADDRINUSE else "RESOURCE_LIMIT"
        failed = Failed(listener.service, code, text)
        if self._failed.get(listener) != failed:
            event(log, logging.ERROR, "health check cannot be opened", service=listener.service, reason=text)
        self._failed[listener] = failed

    def _handler(self, listener: Listener) -> Handler:
        async def handle(_path: str) -> Response:
            local = self._wanted.local_ready(listener.service, listener.family)
            return answer(listener.service, local, healthy=self._healthy())

        return handle
