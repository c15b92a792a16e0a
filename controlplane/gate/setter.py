"""Asks for each Pod that lacks only its gate whether the nodes send to it, and has the gate set.

Pods of the same slices share a question, which lasts for a short round: the slices of a rolling update change all the
time, and a peer that has had a later form is asked for that. Runs at the replica that holds the Lease.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping
from contextlib import aclosing, suppress
from functools import partial
from typing import Protocol

from controlplane.gate import rounds
from controlplane.gate.early import EarlyEndpoints
from controlplane.gate.pods import GatedPod
from controlplane.gate.rounds import NO_SERVICE, WITHOUT_SERVICE, Verdict
from controlplane.inspection.rooms import TooManyWaiters
from controlplane.inspection.waits import Stopping
from deltaplane.model import EndpointSlice, ObjectKey
from deltaplane.v1 import inspection_pb2 as pb

LOOK = 1.0  # seconds until it looks again though nothing has moved
AT_ONCE = 32  # rounds

Wait = Callable[[pb.WaitAppliedRequest], AsyncGenerator[pb.WaitAppliedResponse, None]]
Keys = tuple[ObjectKey, ...]


class Writes(Protocol):
    """`writer.Writer`."""

    async def set(self, pod: GatedPod, verdict: Verdict) -> bool: ...

    async def tell(self, pod: GatedPod, verdict: Verdict) -> None: ...


class Setter:
    """`hash_of`: of an object as this replica has it. `bound`: seconds after which nodes are left out."""

    def __init__(
        self,
        early: EarlyEndpoints,
        wait: Wait,
        hash_of: Callable[[ObjectKey], int],
        writes: Writes,
        *,
        bound: float,
        percent: int = 100,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._early, self._wait, self._hash_of, self._writes = early, wait, hash_of, writes
        self._bound, self._percent, self._clock = bound, percent, clock
        self._since: dict[str, float] = {}  # by UID: when it was first seen to lack only its gate
        self._set: set[str] = set()  # UIDs whose gate is written, until the API tells of it
        self._left_out: set[str] = set()  # nodes that have lacked every Pod since they were left out
        self._rounds: dict[Keys, asyncio.Task[None]] = {}
        self._moved = asyncio.Event()

    def since(self) -> Mapping[str, float]:
        """When each Pod that waits was first seen to, by UID."""
        return self._since

    def left_out(self) -> Collection[str]:
        """Nodes that have lacked every Pod since they were left out."""
        return self._left_out

    def moved(self) -> None:
        """Pods or slices have changed."""
        self._moved.set()

    async def run(self) -> None:
        """Until cancelled."""
        self._early.moved = self.moved
        try:
            while True:
                self._moved.clear()
                await self.look()
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK):
                        await self._moved.wait()
        finally:
            self._early.moved = lambda: None
            for task in self._rounds.values():
                task.cancel()
            await asyncio.gather(*self._rounds.values(), return_exceptions=True)

    async def look(self) -> None:
        """Begins a round for each set of slices that has none; looks at waiting Pods alone."""
        waiting = {pod.uid: pod for pod in self._early.waiting.values()}
        now = self._clock()
        self._since = {uid: self._since.get(uid, now) for uid in waiting}
        self._set &= waiting.keys()
        for keys, (slices, found) in self._groups(pod for uid, pod in waiting.items() if uid not in self._set).items():
            if not keys:
                await self._without(found)
            elif keys not in self._rounds and len(self._rounds) < AT_ONCE:
                task = asyncio.create_task(self._round(slices, found))
                self._rounds[keys] = task
                task.add_done_callback(partial(self._ended, keys))

    def _ended(self, keys: Keys, task: asyncio.Task[None]) -> None:
        del self._rounds[keys]
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error  # the loop's handler tells of it; the next look begins another round
        self._moved.set()

    def _groups(self, pods: Iterable[GatedPod]) -> dict[Keys, tuple[list[EndpointSlice], list[GatedPod]]]:
        found: dict[Keys, tuple[list[EndpointSlice], list[GatedPod]]] = {}
        for pod in pods:
            slices = self._early.slices_of(pod)
            keys = tuple(sorted(piece.key for piece in slices))
            found.setdefault(keys, (sorted(slices, key=lambda each: each.key), []))[1].append(pod)
        return found

    async def _without(self, pods: Iterable[GatedPod]) -> None:
        for pod in pods:
            if self._clock() - self._since[pod.uid] >= WITHOUT_SERVICE:
                await self._settle(pod, NO_SERVICE)

    async def _round(self, slices: list[EndpointSlice], pods: list[GatedPod]) -> None:
        hashes = [self._hash_of(piece.key) for piece in slices]
        last = await self._last(rounds.question(slices, hashes, self._percent))
        if last is None:
            return
        keys = {piece.key for piece in slices}
        for pod in pods:
            now = self._early.waiting.get(pod.key)
            # Another slice has come to name it meanwhile: that one is asked for as well.
            if now is None or now.uid != pod.uid or {piece.key for piece in self._early.slices_of(now)} - keys:
                continue
            since = self._since.get(pod.uid, self._clock())
            verdict = rounds.verdict(last, self._clock() - since, self._bound, self._left_out)
            await self._settle(pod, verdict)
            lacking = {each.node_name for each in last.lacking}
            self._left_out = lacking if verdict.left_out else self._left_out & lacking

    async def _last(self, question: pb.WaitAppliedRequest) -> pb.WaitAppliedResponse | None:
        """The last message; None: there is no room to wait now, or this replica stops."""
        try:
            async with aclosing(self._wait(question)) as answers:
                messages = [message async for message in answers]
        except (TooManyWaiters, Stopping):
            return None
        return messages[-1] if messages else None

    async def _settle(self, pod: GatedPod, verdict: Verdict) -> None:
        if verdict.told:
            await self._writes.tell(pod, verdict)
        if verdict.set_ and await self._writes.set(pod, verdict):
            self._set.add(pod.uid)
