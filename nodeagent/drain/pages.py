"""GET /drain over HTTP: the address of the caller is the question. Runs beside the health pages, with its own limits.

A caller that closes its connection is waited for no longer. Connections are those of Pods that end, so they have a pool
of their own: they are long, and must not take room from probes.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any, TypeVar

from deltaplane.names import shown_address
from nodeagent.drain.callers import Refused, packed
from nodeagent.drain.figures import DrainFigures
from nodeagent.drain.questions import Outcome, Questions
from nodeagent.web.connections import Connections
from nodeagent.web.server import NOT_FOUND, REQUEST_SECONDS, Request, Response, Server, host_of

PATH = "/drain"
OF_ONE_CLIENT = 8  # connections: a Pod's containers each have a hook
SHOWN = 20  # nodes that are named
MARGIN = 5.0  # seconds of a connection besides the wait
T = TypeVar("T")


class DrainServer(Server):
    """Answers Pods on one listening socket. `seconds`: for how long a call waits at most."""

    def __init__(
        self,
        opened: socket.socket,
        questions: Questions,
        figures: DrainFigures,
        *,
        seconds: float,
        everybody: Connections[asyncio.StreamWriter],
    ) -> None:
        super().__init__(opened, _nothing, everybody, seconds=seconds + REQUEST_SECONDS + MARGIN)
        self._questions, self._figures, self._wait = questions, figures, seconds

    async def _respond(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Response:
        if request.path != PATH:
            return NOT_FOUND
        result = "left"  # also where it takes longer than the connection may, or this program ends
        try:
            address = packed(host_of(writer))
            outcome = await _unless_gone(reader, self._questions.gone(address, self._wait))
            result = ""
            self._figures.answered(outcome)
            return said(shown_address(address), outcome)
        except Refused as error:
            result = "refused"
            return Response(f"{error}\n", error.status)
        except Exception as error:
            result = "left" if isinstance(error, _Gone) else "failed"
            raise
        finally:
            if result:
                self._figures.ended(result)


async def _nothing(_path: str) -> Response:
    return NOT_FOUND


class _Gone(OSError):
    """The caller has closed its connection."""


async def _unless_gone(reader: asyncio.StreamReader, work: Coroutine[Any, Any, T]) -> T:
    """What the work gives. Raises `_Gone` as soon as the caller closes its side; the work ends then."""
    task, end = asyncio.ensure_future(work), asyncio.ensure_future(reader.read(1))
    try:
        await asyncio.wait({task, end}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done() and not end.result():
            raise _Gone
        return await task
    finally:
        for each in (task, end):
            each.cancel()
        await asyncio.gather(task, end, return_exceptions=True)


def said(address: str, outcome: Outcome) -> Response:
    """200 where every node has let go; 504 where some have not in time, with their names and reasons."""
    answer, after = outcome.answer, f"after {outcome.seconds:.2f} s"
    if answer.gone:
        nodes = f"{answer.nodes} node{'' if answer.nodes == 1 else 's'}"
        return Response(f"{address} gets no new connections from any of {nodes}, {after}\n")
    lines = [f"{address} may still get new connections, {after}"]
    lines += [text for text in (outcome.still, answer.text) if text]
    lines += [f"node {late.node}: {late.why}" for late in answer.late[:SHOWN]]
    more = len(answer.late) - SHOWN + answer.more
    lines += [f"and {more} more"] if more > 0 else []
    return Response("\n".join(lines) + "\n", 504)
