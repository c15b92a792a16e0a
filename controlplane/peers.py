"""The other replicas of the control plane: where they are, and how this one asks them.

    peers = Peers(finder, dial, server_id)
    for asked in await peers.ask("ListNodes", request):
        asked.status.error or asked.answer

`finder` gives addresses, its own may be among them (`replica_places`). A peer that does not answer is in the result,
with the reason. Called by inspection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from typing import Any, Protocol

import grpc
import grpc.aio
from msgspec import Struct

from controlplane.reached import Found
from controlplane.replica_places import Finder, Unfound
from deltaplane.certificates import Unusable
from deltaplane.names import shown
from deltaplane.v1 import inspection_pb2
from deltaplane.v1.inspection_pb2_grpc import InspectionServiceStub

ANSWER_SECONDS = 2.0  # that a peer has for an answer
MOST_ERROR = 300  # characters
OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
)


class Stranger(Exception):
    """What answers there is no replica of this control plane; the text says why."""


FAILURES = (grpc.aio.AioRpcError, Unusable, Stranger)  # of one peer


class Dial(Protocol):
    """How a replica is reached, and what it is shown."""

    def channel(self, address: str) -> grpc.aio.Channel:
        """To HOST:PORT. Raises `deltaplane.certificates.Unusable`."""

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with each call. Raises `deltaplane.certificates.Unusable`."""


class Asked(Struct, frozen=True):
    """What one peer said. `answer` None: nothing; `status.error` says why."""

    status: inspection_pb2.ReplicaStatus
    answer: Any = None


class Peers:
    """`server_id`: this replica's own, which is no peer. `cluster_id`: of its cluster; empty: not known."""

    def __init__(self, finder: Finder, dial: Dial, server_id: str, cluster_id: Callable[[], str] = str) -> None:
        self._finder, self._dial, self._server_id, self._cluster_id = finder, dial, server_id, cluster_id
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._own: set[str] = set()

    @property
    def own(self) -> AbstractSet[str]:
        """Addresses at which this replica itself was found to answer."""
        return self._own

    async def addresses(self) -> list[str]:
        """Where the others are. Raises `Unfound`."""
        try:
            named = await self._finder.find()
        except Unfound as error:
            raise Unfound(str(error), [place for place in error.places if place not in self._own]) from error
        found = [address for address in named if address not in self._own]
        for gone in self._channels.keys() - set(found):
            await self._channels.pop(gone).close()
        return found

    async def ask(self, method: str, request: Any, seconds: float = ANSWER_SECONDS) -> list[Asked]:
        """Asks all at once. Never raises: what went wrong is in the result. `request` has this_replica set."""
        unfound: list[Asked] = []
        try:
            addresses = await self.addresses()
        except Unfound as error:
            addresses = list(error.places)
            unfound = [Asked(inspection_pb2.ReplicaStatus(address="unknown", error=str(error)[:MOST_ERROR]))]
        answers = await asyncio.gather(*(self._ask(address, method, request, seconds) for address in addresses))
        return [*(each for each in answers if each is not None), *unfound]

    async def _ask(self, address: str, method: str, request: Any, seconds: float) -> Asked | None:
        status = inspection_pb2.ReplicaStatus(address=address)
        try:
            async with asyncio.timeout(seconds + 1):
                if not await self.is_other(address, seconds, status):
                    return None
                async with self.stub(address) as (stub, metadata):
                    call = getattr(stub, method)(request, timeout=seconds, metadata=metadata)
                    return Asked(status, await call)
        except (*FAILURES, TimeoutError) as error:
            await self.failed(address, error)
            return Asked(inspection_pb2.ReplicaStatus(address=address, error=said(error)))

    async def failed(self, address: str, error: BaseException) -> None:
        """Where a peer cannot be reached, the next call connects anew, with what the certificates' files say then."""
        if isinstance(error, grpc.aio.AioRpcError) and error.code() is grpc.StatusCode.UNAVAILABLE:
            channel = self._channels.pop(address, None)
            if channel is not None:
                await channel.close()

    async def is_other(self, address: str, seconds: float, status: inspection_pb2.ReplicaStatus) -> bool:
        """Asks who answers at the address, and fills the status; whether it is another replica.

        Raises as a call, and `Stranger`.
        """
        found = await self._status(address, seconds)
        if found is None:
            return False
        status.CopyFrom(found.replicas[0])
        status.address = address
        return True

    async def serves(self, address: str) -> Found | None:
        """Which other replica answers there, and whether agents can go to it; None: it is this one."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS + 1):
                found = await self._status(address, ANSWER_SECONDS)
        except (*FAILURES, TimeoutError) as error:
            await self.failed(address, error)
            return Found(said(error))
        if found is None:
            return None
        one = found.replicas[0]
        fault = one.no_agents if found.ready else "it does not have the whole state yet"
        return Found(fault, follows=not one.unfollowed, agents=one.connected_nodes)

    async def _status(self, address: str, seconds: float) -> inspection_pb2.GetStatusResponse | None:
        """Who answers there; None: this replica itself. Raises as a call, and `Stranger`."""
        async with self.stub(address) as (stub, metadata):
            request = inspection_pb2.GetStatusRequest(this_replica=True)
            found: inspection_pb2.GetStatusResponse = await stub.GetStatus(request, timeout=seconds, metadata=metadata)
        if found.server_id == self._server_id:
            self._own.add(address)
            channel = self._channels.pop(address, None)
            if channel is not None:
                await channel.close()
            return None
        self._recognise(found)
        return found

    def _recognise(self, found: inspection_pb2.GetStatusResponse) -> None:
        mine = self._cluster_id()
        if not found.server_id or len(found.replicas) != 1:
            raise Stranger("what answers there is no replica: its status has no server_id, or not one replica")
        if mine and found.cluster_id and found.cluster_id != mine:
            raise Stranger(f"it is a replica of another cluster: {shown(found.cluster_id)}, not {mine}")

    @asynccontextmanager
    async def stub(self, address: str) -> AsyncIterator[tuple[Any, tuple[tuple[str, str], ...]]]:
        """For calls to one peer, and what goes with each. Raises `Unusable`."""
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = self._dial.channel(address)
        yield InspectionServiceStub(channel), self._dial.metadata()

    async def close(self) -> None:
        """Ends the connections."""
        while self._channels:
            await self._channels.popitem()[1].close()


def said(error: BaseException) -> str:
    """Why a peer did not answer, in one line."""
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"[:MOST_ERROR]
    return str(error)[:MOST_ERROR] or "it did not answer in time"


class Plain:
    """Plain text, and nothing is shown."""

    def channel(self, address: str) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(address, options=OPTIONS)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        return ()
