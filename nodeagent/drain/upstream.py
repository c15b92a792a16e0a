"""Asks the control plane when every node's kernel has let go of an address: WaitApplied, by this agent's own identity.

At the replica that the agent follows, over a channel of its own that is open while anybody asks. Where the replica
goes, or has no room, the question is put again until its time is over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
from msgspec import Struct

from deltaplane.certificates import Unusable
from deltaplane.v1 import inspection_pb2 as pb
from deltaplane.v1 import inspection_pb2_grpc
from nodeagent.drain.callers import Refused
from nodeagent.stream.channel import OPTIONS
from nodeagent.stream.credentials import Dialler
from nodeagent.stream.places import Place

AGAIN = 0.5  # seconds until a question that broke off is put again
MARGIN = 2.0  # seconds that an answer may come later than was asked for
FOR_GOOD = {
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNIMPLEMENTED,
}


class Late(Struct, frozen=True):
    """A node that has not let go, and why."""

    node: str
    why: str


class Answer(Struct, frozen=True):
    """`gone`: every node has let go. `late`: those that have not, as far as they are named; `more`: how many more.

    `text`: what the control plane has not seen yet, or why nobody could be asked.
    """

    gone: bool
    nodes: int = 0
    late: tuple[Late, ...] = ()
    more: int = 0
    text: str = ""


class Upstream:
    """`place` says which replica the agent follows now."""

    def __init__(
        self,
        dialler: Dialler,
        place: Callable[[], Place | None],
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._dialler, self._place, self._sleep = dialler, place, sleep
        self._channels: dict[Place, tuple[grpc.aio.Channel, int]] = {}  # with how many ask there

    async def gone(self, address: str, seconds: float) -> Answer:
        """Whether every node has let go of it, within so many seconds. Raises `Refused` where the control plane says
        no."""
        until, last = time.monotonic() + seconds, Answer(gone=False, text="this agent follows no replica")
        while (left := until - time.monotonic()) > 0:
            place = self._place()
            if place is not None:
                try:
                    return await self._ask(place, address, left)
                except (grpc.aio.AioRpcError, Unusable) as error:
                    last = Answer(gone=False, text=f"{place.server}: {_why(error)}")
            await self._sleep(min(AGAIN, max(0.0, until - time.monotonic())))
        return last

    async def _ask(self, place: Place, address: str, seconds: float) -> Answer:
        asked = pb.WaitAppliedRequest(removed_address=address, timeout_seconds=seconds)
        async with self._channel(place) as channel:
            stub: Any = inspection_pb2_grpc.InspectionServiceStub(channel)
            metadata = self._dialler.metadata(place.server)
            async for message in stub.WaitApplied(asked, timeout=seconds + MARGIN, metadata=metadata):
                if message.done:
                    return answer_of(message)
        return Answer(gone=False, text=f"{place.server} ended its answer")

    @asynccontextmanager
    async def _channel(self, place: Place) -> AsyncIterator[grpc.aio.Channel]:
        channel, users = self._channels.get(place, (None, 0))
        channel = channel or self._dialler.channel(place.server, OPTIONS, place.name)
        self._channels[place] = channel, users + 1
        try:
            yield channel
        finally:
            channel, users = self._channels[place]
            self._channels[place] = channel, users - 1
            if users == 1:
                del self._channels[place]
                await channel.close()


def answer_of(message: pb.WaitAppliedResponse) -> Answer:
    """Of the last message."""
    late = tuple(Late(each.node_name, each.text) for each in message.lacking)
    return Answer(message.applied, message.chosen_nodes, late, message.more_lacking, message.text)


def _why(error: grpc.aio.AioRpcError | Unusable) -> str:
    """Raises `Refused` for what another try cannot mend."""
    if isinstance(error, Unusable):
        return str(error)
    if error.code() in FOR_GOOD:
        raise Refused(502, f"the control plane refuses this agent's question: {error.details()}") from error
    return f"{error.code().name}: {error.details()}"
