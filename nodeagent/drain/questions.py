"""The questions of Pods: one for each address at a time, whoever of the Pod asks; each has its share.

First this node's own state must say that nobody sends to the Pod any more: a hook begins when the Pod is marked for
deletion, and its slices change after that. Until then the control plane hears nothing, so a Pod that does not end
costs it nothing. Then the control plane says when all nodes' kernels have come as far.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

from msgspec import Struct

from deltaplane.logs import event
from deltaplane.shares import Rates
from nodeagent.drain.callers import Caller, Refused
from nodeagent.drain.upstream import Answer

log = logging.getLogger(__name__)

MOST = 256  # addresses at once; a node has fewer Pods
AT_ONCE = 32  # questions to the control plane
PER_SECOND, AFTER_A_PAUSE = 0.5, 4.0  # new questions of one address
LOOK = 0.5  # seconds until this node's state is looked at, though no commit has been heard of


class Own(Protocol):
    """This node's own state."""

    async def caller(self, address: bytes) -> Caller:
        """Who has this address. Raises `Refused`."""

    async def still(self, caller: Caller) -> str:
        """Which Services send to it by this node's own state, in words; empty: none does."""


class Outcome(Struct, frozen=True):
    """`still`: the last that this node's own state said, where the control plane was not even asked."""

    answer: Answer
    seconds: float
    still: str = ""


Ask = Callable[[str, float], Awaitable[Answer]]


class Questions:
    """`ask` is `upstream.Upstream.gone`. `moved` is to be called whenever this node's state has changed."""

    def __init__(self, own: Own, ask: Ask, clock: Callable[[], float] = time.monotonic) -> None:
        self._own, self._ask, self._clock = own, ask, clock
        self._open: dict[bytes, tuple[asyncio.Task[Outcome], int]] = {}  # with how many wait for it
        self._rates = Rates[bytes](PER_SECOND, AFTER_A_PAUSE)
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._moved = asyncio.Event()

    def __len__(self) -> int:
        return len(self._open)

    def moved(self) -> None:
        """Everybody who waits for this node's own state looks again."""
        self._moved.set()
        self._moved = asyncio.Event()

    async def gone(self, address: bytes, seconds: float) -> Outcome:
        """When nobody sends to the address any more, or the time is over. Raises `Refused`.

        Who asks while a question of the same address is open gets its answer, and its end.
        """
        task, waiting = self._open.get(address, (None, 0))
        if task is None:
            self._admit(address)
            task = asyncio.create_task(self._answered(address, seconds))
        self._open[address] = task, waiting + 1
        try:
            return await asyncio.shield(task)
        finally:
            self._leave(address, task)

    def _admit(self, address: bytes) -> None:
        if len(self._open) >= MOST:
            raise Refused(503, f"{MOST} other Pods wait at this node")
        if not self._rates.take(address, self._clock()):
            raise Refused(429, "this address has asked too often: one call waits until it is answered")

    def _leave(self, address: bytes, task: asyncio.Task[Outcome]) -> None:
        held, waiting = self._open.get(address, (None, 0))
        if held is not task:
            return
        if waiting > 1 and not task.done():
            self._open[address] = task, waiting - 1
            return
        del self._open[address]
        task.cancel()

    async def _answered(self, address: bytes, seconds: float) -> Outcome:
        began = self._clock()
        until = began + seconds
        caller = await self._own.caller(address)
        still = await self._until_unused(caller, until)
        answer = Answer(gone=False)
        if not still:
            answer = await self._asked(caller, until)
            if not answer.gone:
                names = ",".join(late.node for late in answer.late)
                event(log, logging.WARNING, "a Pod ends while nodes may send to it", pod=caller.shown, late=names)
        return Outcome(answer, self._clock() - began, still)

    async def _until_unused(self, caller: Caller, until: float) -> str:
        while True:
            moved = self._moved
            still = await self._own.still(caller)
            if not still or (left := until - self._clock()) <= 0:
                return still
            with suppress(TimeoutError):
                async with asyncio.timeout(min(LOOK, left)):
                    await moved.wait()

    async def _asked(self, caller: Caller, until: float) -> Answer:
        try:
            async with asyncio.timeout(max(0.0, until - self._clock())):
                await self._turns.acquire()
        except TimeoutError:
            return Answer(gone=False, text=f"{AT_ONCE} other Pods of this node are asked for")
        try:
            return await self._ask(caller.shown, max(0.001, until - self._clock()))
        finally:
            self._turns.release()
