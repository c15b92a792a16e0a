"""What a call has brought and the agent has not taken yet: read ahead while a long call runs. Owned by the stream.

Otherwise a message is read when it is asked for, without a task in between, which is the shortest way. One read of the
call runs at a time, and none is cancelled before its stream: that would cancel the call.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable

MOST_BYTES = 1 << 20  # that wait here; what is beyond waits with the replica (HTTP/2's flow control)


class Inbox:
    """Messages in the order they came. Used by one task, on the event loop."""

    def __init__(self, call: AsyncIterable[bytes]) -> None:
        self._messages = aiter(call)
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._reader: asyncio.Task[None] | None = None
        self._ahead = False

    async def arrived(self) -> bool:
        """Waits until a message is there; False: the stream has ended. Raises what the call raises.

        Ends reading ahead, with the message that is being waited for.
        """
        self._ahead = False
        while not self._waiting:
            if self._reader is None:
                return await self._read()
            reader = self._reader
            await reader
            self._reader = None
        return True

    def read_ahead(self) -> None:
        """Takes in what comes from now on, until `arrived` is called again."""
        self._ahead = True
        if self._reader is None or _is_idle(self._reader):
            self._reader = asyncio.create_task(self._fill())

    def take(self) -> tuple[bytes, ...]:
        """All that is there."""
        taken = tuple(self._waiting)
        self._waiting.clear()
        self._size = 0
        return taken

    async def close(self) -> None:
        """Reads no more, as the call has ended or is to end."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)

    async def _fill(self) -> None:
        while self._ahead and self._size < MOST_BYTES:
            if not await self._read():
                return

    async def _read(self) -> bool:
        data = await anext(self._messages, None)
        if data is None:
            return False
        self._waiting.append(data)
        self._size += len(data)
        return True


def _is_idle(reader: asyncio.Task[None]) -> bool:
    """Whether it has stopped with nothing to say: an error stays for `arrived`."""
    return reader.done() and not reader.cancelled() and reader.exception() is None
