"""Two connected TCP sockets made one: bytes both ways, each end's close carried over, and never more held than a pipe.

Runs in the proxy's loop. Bytes go from socket to socket by splice(2): the kernel moves pages, this process sees none.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable

from nodeagent.dataplane.userspace import sockets
from nodeagent.dataplane.userspace.pipes import SIZE, Pipe, Pipes

_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_NO_PIPE_PAUSE = 0.05  # seconds until a direction that found no pipe tries again


class Relay:
    """Carries bytes between a client and an endpoint until both have ended; then calls `over`, once.

    `carried` is then how many bytes went to the endpoint and how many came from it.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, pipes: Pipes, ends: tuple[socket.socket, socket.socket],
        over: Callable[[Relay], None],
    ) -> None:  # fmt: skip
        self._ends = ends
        self._over = over
        self.carried = (0, 0)
        one, other = (end.fileno() for end in ends)
        self._halves: tuple[_Half, ...] = (_Half(loop, pipes, one, other, self), _Half(loop, pipes, other, one, self))
        for half in self._halves:
            half.start()

    @property
    def held(self) -> int:
        """Bytes that were read and not yet taken by the other end."""
        return sum(half.pending for half in self._halves)

    def ended(self, receiver: int) -> None:
        """One direction is through."""
        if all(half.done for half in self._halves):
            self._close(socket.socket.close)
            return
        end = next(end for end in self._ends if end.fileno() == receiver)
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        """One end is gone: the other hears of it as a reset."""
        self._close(sockets.reset)

    def _close(self, end: Callable[[socket.socket], None]) -> None:
        for half in self._halves:
            half.stop()
        for connection in self._ends:
            end(connection)
        self.carried = self._halves[0].carried, self._halves[1].carried
        self._halves = ()  # nothing is left for the garbage collector to find out
        self._over(self)


class _Half:
    """One direction."""

    __slots__ = (
        "_loop",
        "_pipe",
        "_pipes",
        "_relay",
        "_source",
        "_stopped",
        "_timer",
        "_to",
        "carried",
        "done",
        "pending",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, pipes: Pipes, source: int, to: int, relay: Relay) -> None:
        self._loop, self._pipes, self._relay = loop, pipes, relay
        self._source, self._to = source, to
        self._pipe: Pipe | None = None  # held while there are bytes in it
        self._timer: asyncio.TimerHandle | None = None
        self.pending = 0  # bytes in the pipe
        self.carried = 0  # bytes that were read so far
        self.done = False
        self._stopped = False

    def start(self) -> None:
        self._timer = None
        self._loop.add_reader(self._source, self._readable)

    def stop(self) -> None:
        """Watches nothing any more and gives the pipe back."""
        self._loop.remove_reader(self._source)
        self._loop.remove_writer(self._to)
        if self._timer is not None:
            self._timer.cancel()
        self._stopped = True
        self._give()

    def _readable(self) -> None:
        try:
            pipe = self._pipe = self._pipes.take()
        except OSError:
            self._loop.remove_reader(self._source)
            self._timer = self._loop.call_later(_NO_PIPE_PAUSE, self.start)
            return
        try:
            self.pending = os.splice(self._source, pipe.into, SIZE, flags=_FLAGS)
        except BlockingIOError:
            self._give()
        except OSError:
            self._relay.abort()
        else:
            self._took(pipe)

    def _took(self, pipe: Pipe) -> None:
        self.carried += self.pending
        if not self.pending:
            self._end()
        elif not self._push(pipe):
            self._loop.remove_reader(self._source)
            self._loop.add_writer(self._to, self._writable, pipe)

    def _push(self, pipe: Pipe) -> bool:
        """Gets on with what is in the pipe; false where the receiver takes no more for now: nothing is read then."""
        try:
            while self.pending:
                self.pending -= os.splice(pipe.out, self._to, self.pending, flags=_FLAGS)
        except BlockingIOError:
            return False
        except OSError:
            self._relay.abort()
        else:
            self._give()
        return True

    def _writable(self, pipe: Pipe) -> None:
        if self._push(pipe) and not self._stopped:
            self._loop.remove_writer(self._to)
            self._loop.add_reader(self._source, self._readable)

    def _give(self) -> None:
        if self._pipe is not None:
            self._pipes.give(self._pipe, empty=not self.pending)
            self._pipe = None

    def _end(self) -> None:
        """The sender will send no more: the receiver is told so, and may still answer."""
        self._give()
        self.done = True
        self._loop.remove_reader(self._source)
        self._relay.ended(self._to)
