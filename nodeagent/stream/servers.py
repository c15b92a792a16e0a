"""The servers of `--server`: each address of a name is one of its own, to be dialled, and no Service may take it.

A node that cannot reach its control plane could not be told that such a Service is gone. Literal addresses are known at
once, those of names when they resolve. A name that does not resolve keeps the addresses that it had, or those of the
last good list (`last_good`). Run by `nodeagent.app`; `client` asks it before it dials.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from ipaddress import ip_address

from deltaplane.flags import joined
from deltaplane.frontends import Slot, slot
from deltaplane.model import Protocol
from nodeagent.stream.last_good import LastGood
from nodeagent.stream.places import Place

WAYS = "where this node reaches its control plane (--server)"
PERIOD = 30.0  # seconds between two looks at what names resolve to
FIRST = 2.0  # seconds that the start waits for names at most


class Servers:
    """`servers`: HOST:PORT each. `reserve` is given all slots whenever they change; each port is also a node port's.

    `last_good`: where the addresses of names are kept; None: nowhere.
    """

    def __init__(
        self,
        servers: Sequence[str],
        reserve: Callable[[frozenset[Slot]], Awaitable[None]],
        last_good: LastGood | None = None,
    ) -> None:
        self._said = tuple(servers)
        self._reserve, self._reserved = reserve, frozenset[Slot]()
        self._last_good = last_good
        self._hosts = [host_and_port(server) for server in servers if not server.startswith("unix:")]
        self._found: dict[str, frozenset[bytes]] = {}
        for host, _ in self._hosts:
            with suppress(ValueError):
                self._found[host] = frozenset({ip_address(host).packed})
        self._names = [host for host, _ in self._hosts if host not in self._found]
        kept = last_good.read() if last_good is not None and self._names else {}
        self._last = {name: kept[name] for name in self._names if name in kept}  # never a name that is not said now
        self._looking: asyncio.Task[None] | None = None

    @property
    def slots(self) -> frozenset[Slot]:
        """All that are known now."""
        return frozenset(self._slots())

    def _slots(self) -> Iterator[Slot]:
        for host, port in self._hosts:
            for family in (4, 6):
                yield slot(family, Protocol.TCP, port)
            for address in self._found.get(host, frozenset()) | self._last.get(host, frozenset()):
                yield slot(4 if len(address) == 4 else 6, Protocol.TCP, port, address)

    # ------------------------------------------------------------ to be dialled

    def places(self, *, tired: bool = False) -> list[Place]:
        """One for each address. `tired`: none of those that are known now answers; so those of the last list too."""
        return list(dict.fromkeys(place for said in self._said for place in self._places(said, tired=tired)))

    def _places(self, said: str, *, tired: bool) -> Iterator[Place]:
        host, port = ("", 0) if said.startswith("unix:") else host_and_port(said)
        if host not in self._names:
            yield Place(said)
            return
        found, last = self._found.get(host, frozenset()), self._last.get(host, frozenset())
        others = last - found if tired or not found else frozenset()
        for address in [*sorted(found, key=_rank), *sorted(others, key=_rank)]:
            yield Place(joined(str(ip_address(address)), port), host, said)
        if not (found or last):
            yield Place(said)  # gRPC may know how to resolve it

    def good(self, place: Place) -> None:
        """A replica answers there: the addresses of its name are good ones, and are kept."""
        found = self._found.get(place.name)
        if place.name and found:
            self._last[place.name] = found
            if self._last_good is not None:
                self._last_good.keep(self._last)

    # ------------------------------------------------------------ names

    async def look(self) -> None:
        """Resolves the names again, for `FIRST` seconds at most; what takes longer counts when it comes."""
        if not self._names:
            return
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._resolve())
        await asyncio.wait({self._looking}, timeout=FIRST)
        if self.slots != self._reserved:
            await self._settle()

    async def _resolve(self) -> None:
        loop = asyncio.get_running_loop()
        for name in self._names:
            with suppress(OSError, UnicodeError):
                answers = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
                self._found[name] = frozenset(_packed(str(answer[4][0])) for answer in answers)

    async def _settle(self) -> None:
        self._reserved = self.slots
        await self._reserve(self._reserved)

    async def begin(self) -> None:
        """Looks once; waits for names for `FIRST` seconds at most."""
        self._reserved = frozenset()
        await self.look()
        if self._reserved != self.slots or not self._reserved:
            await self._settle()

    async def run(self, period: float = PERIOD) -> None:
        """Looks every `period` seconds whether names have other addresses. Ends by cancellation."""
        while True:
            await asyncio.sleep(period)
            await self.look()


def _rank(address: bytes) -> tuple[int, bytes]:
    return len(address), address


def _packed(text: str) -> bytes:
    return ip_address(text.partition("%")[0]).packed


def host_and_port(server: str) -> tuple[str, int]:
    """The parts of HOST:PORT or [HOST]:PORT."""
    host, _, port = server.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)
