"""Where this node reaches its control plane: what no Service may take, or nobody could be told to give it back.

What `--server` says as addresses and ports: literal addresses at once, names as they resolve. A name that does not
resolve now keeps the addresses it had. Run by `nodeagent.main`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from ipaddress import ip_address

from deltaplane.frontends import Slot, slot
from deltaplane.model import Protocol

WAYS = "where this node reaches its control plane (--server)"
PERIOD = 30.0  # seconds between two looks at what names resolve to
FIRST = 2.0  # seconds the start waits for names at most


class Servers:
    """Of HOST:PORT each. `reserve` is given the slots as they become known, among them the ports as node ports."""

    def __init__(self, servers: Sequence[str], reserve: Callable[[frozenset[Slot]], None]) -> None:
        self._reserve = reserve
        self._hosts = [host_and_port(server) for server in servers if not server.startswith("unix:")]
        self._found: dict[str, frozenset[bytes]] = {}
        for host, _ in self._hosts:
            with suppress(ValueError):
                self._found[host] = frozenset({ip_address(host).packed})
        self._names = [host for host, _ in self._hosts if host not in self._found]

    @property
    def slots(self) -> frozenset[Slot]:
        """As they are known now."""
        return frozenset(self._slots())

    def _slots(self) -> Iterator[Slot]:
        for host, port in self._hosts:
            for family in (4, 6):
                yield slot(family, Protocol.TCP, port)
            for address in self._found.get(host, ()):
                yield slot(4 if len(address) == 4 else 6, Protocol.TCP, port, address)

    async def look(self) -> None:
        """Resolves the names again."""
        loop = asyncio.get_running_loop()
        for name in self._names:
            with suppress(OSError, UnicodeError):
                answers = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
                self._found[name] = frozenset(_packed(str(answer[4][0])) for answer in answers)

    async def begin(self) -> None:
        """One look that does not hold up the start for long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST):
                await self.look()
        self._reserve(self.slots)

    async def run(self, period: float = PERIOD) -> None:
        """Looks now and then, for names that have other addresses. Ends by cancellation."""
        while True:
            await asyncio.sleep(period)
            before = self.slots
            await self.look()
            if self.slots != before:
                self._reserve(self.slots)


def _packed(text: str) -> bytes:
    return ip_address(text.partition("%")[0]).packed


def host_and_port(server: str) -> tuple[str, int]:
    """Of HOST:PORT or [HOST]:PORT."""
    host, _, port = server.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)
