"""What happens, for all browsers that look: nodes every two seconds, changes as they are acknowledged.

It begins with what `History` has kept. It is asked and computed once for all viewers, only while there are some, and
seldom enough to take a twentieth of a processor at most. A viewer that does not keep up is given the whole state anew.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from typing import Any

import msgspec

from controlplane.page.history import History, Look
from controlplane.page.rows import LAG_BOUNDS, Row, moved, node_row, overview
from controlplane.page.waterfall import STAGES, Waterfall
from deltaplane import moments
from deltaplane.v1 import inspection_pb2 as pb

VIEWERS = 32
BACKLOG = 16  # events that a viewer may lag
LOOKS = 300  # as many columns as the heat map has
PERIOD = 2.0  # seconds between two looks at the nodes
SHARE = 20  # after a look it waits for at least so many times the processor time that passed during it,
LONGEST = 30.0  # but no longer than this, seconds
PAUSE = 0.5  # seconds between two batches of changes
ALIVE = 15.0  # seconds after which something is sent in any case
AGAIN = 5.0  # seconds after which what failed is tried again


def event(name: str, data: Any) -> bytes:
    """One server-sent event. JSON has no line breaks."""
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"


class Live:
    """`nodes` asks for the nodes of the cluster, `commits` tails their commits."""

    def __init__(
        self,
        nodes: Callable[[], Awaitable[pb.ListNodesResponse]],
        commits: Callable[[], AsyncIterator[pb.TailCommitsResponse]],
        history: History | None = None,
    ) -> None:
        self._nodes, self._commits, self._history = nodes, commits, history
        self._viewers: set[asyncio.Queue[bytes | None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._rows: dict[str, Row] = {}
        self._overview: Row = {}
        self._waterfall = Waterfall()
        self._looks: deque[Look] = deque(maxlen=LOOKS)

    def __len__(self) -> int:
        """How many look."""
        return len(self._viewers)

    async def view(self) -> AsyncGenerator[bytes, None]:
        """Events, until the viewer goes; none where `VIEWERS` look already, since many may have been let in at once."""
        if len(self) >= VIEWERS:
            return
        with self._looking() as queue:
            yield self._whole()
            while True:
                try:
                    async with asyncio.timeout(ALIVE):
                        part = await queue.get()
                except TimeoutError:
                    yield b": still here\n\n"
                    continue
                yield self._whole() if part is None else part

    @contextmanager
    def _looking(self) -> Iterator[asyncio.Queue[bytes | None]]:
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(BACKLOG)
        self._viewers.add(queue)
        if self._task is None:
            self._recall()
            self._task = asyncio.create_task(self._run())
        try:
            yield queue
        finally:
            self._viewers.discard(queue)
            if not self._viewers:
                self._rest()

    def _recall(self) -> None:
        """Begins with what happened while nobody looked."""
        if self._history is not None:
            self._history.fill(self._waterfall)
            self._looks.extend(self._history.looks())

    def _rest(self) -> None:
        """Nobody looks any more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._rows, self._overview, self._waterfall = {}, {}, Waterfall()
        self._looks.clear()

    def _whole(self) -> bytes:
        known = {
            "rows": list(self._rows.values()), "overview": self._overview, "changes": self._waterfall.all(),
            "looks": list(self._looks), "bounds": LAG_BOUNDS, "stages": STAGES, "period": PERIOD,
        }  # fmt: skip
        return event("whole", known)

    def _tell(self, part: bytes) -> None:
        for queue in self._viewers:
            if queue.full():
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(None)
            else:
                queue.put_nowait(part)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._again("nodes", self._follow_nodes))
            group.create_task(self._again("changes", self._follow_commits))
            group.create_task(self._again("changes", self._show_changes))

    async def _again(self, what: str, job: Callable[[], Awaitable[None]]) -> None:
        """What fails is told to the viewers, and tried again."""
        while True:
            why = "it ended"
            try:
                await job()
            except Exception as error:  # noqa: BLE001 - whatever it is, the page says so and goes on
                why = str(error) or type(error).__name__
            self._tell(event("trouble", {"what": what, "why": why}))
            await asyncio.sleep(AGAIN)

    async def _follow_nodes(self) -> None:
        while True:
            began = time.thread_time()
            answer = await self._nodes()
            now = {status.node_name: node_row(status) for status in answer.nodes}
            changed, gone = moved(self._rows, now)
            self._rows, self._overview = now, overview(answer)
            self._looks.append(Look(moments.unix_nano() // 1_000_000, self._overview["lag"]))
            news = {"rows": changed, "gone": gone, "overview": self._overview, "look": self._looks[-1]}
            self._tell(event("nodes", news))
            await asyncio.sleep(max(PERIOD, min(LONGEST, SHARE * (time.thread_time() - began))))

    async def _follow_commits(self) -> None:
        tail: Any = self._commits()
        async with aclosing(tail) as commits:
            async for commit in commits:
                if commit.HasField("missing"):
                    missing = commit.missing
                    self._tell(event("trouble", {"what": f"replica {missing.address}", "why": missing.error}))
                else:
                    self._waterfall.take(commit)

    async def _show_changes(self) -> None:
        while True:
            await asyncio.sleep(PAUSE)
            if news := self._waterfall.news():
                self._tell(event("changes", news))

    async def close(self) -> None:
        """Ends what runs."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
