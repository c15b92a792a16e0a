"""No task, callback or thread of a program ends unnoticed. Both programs run all that they do through this.

A cancelled child is an end as any other: `asyncio.TaskGroup` and `asyncio.wait` take it for none. What must not end
goes to `together`, which ends with an error that names it; what may be started anew goes to `restarting`. Callbacks of
the loop go through `Watch.guard`, since what they raise reaches nobody.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple

from deltaplane.logs import event

log = logging.getLogger(__name__)

FIRST, LAST = 1.0, 60.0  # seconds before a task is started anew: doubles with each end that comes soon
STEADY = 60.0  # a task that ran so long starts at FIRST again


class Ended(Exception):
    """A part of the program that runs for ever has ended; the text names it and says how."""


class Job(NamedTuple):
    """`finishes`: its return is no error, and ends what runs beside it."""

    name: str
    work: Coroutine[Any, Any, object]
    finishes: bool = False


async def together(*jobs: Job) -> None:
    """Runs the jobs until one ends, in whatever way, or the caller is cancelled; the others are cancelled then.

    Raises what that job raised, and `Ended` where it returned or was cancelled. Returns where it `finishes`.
    """
    tasks = {asyncio.create_task(job.work, name=job.name): job for job in jobs}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        failed = [task for task in done if task.cancelled() or task.exception() or not tasks[task].finishes]
        for task in failed:
            _raise_end(tasks[task].name, task)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _raise_end(name: str, task: asyncio.Task[object]) -> None:
    if task.cancelled():
        raise Ended(f"{name}: cancelled from within: a defect, please report it")
    error = task.exception()
    if error is not None:
        raise error
    raise Ended(f"{name}: returned, though it runs for ever: a defect, please report it")


class Watch:
    """Counts what failed, by name, and logs it; each text once. `fatal` are the names that end the program."""

    def __init__(self) -> None:
        self.failures: Counter[str] = Counter()
        self._told: set[tuple[str, str]] = set()
        self._fatal: asyncio.Future[None] | None = None

    def failed(self, name: str, error: BaseException | str) -> None:
        """Something failed and the program goes on."""
        self.failures[name] += 1
        text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        if (name, text) not in self._told and len(self._told) < 1000:
            self._told.add((name, text))
            event(log, logging.ERROR, "failed; it goes on", task=name, error=text)
            if isinstance(error, BaseException):
                log.error("%s: a defect, please report it", name, exc_info=error)

    # ------------------------------------------------------------ what cannot be awaited

    def install(self) -> None:
        """Hears of what the running loop's callbacks and the process's threads raise, and nobody catches."""
        asyncio.get_running_loop().set_exception_handler(self._in_loop)
        threading.excepthook = self._in_thread

    def _in_loop(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.failed("event loop", context.get("exception") or str(context.get("message")))

    def _in_thread(self, told: threading.ExceptHookArgs) -> None:
        name = told.thread.name if told.thread is not None else "unknown"
        self.failed(f"thread {name}", told.exc_value or told.exc_type.__name__)

    def guard(self, name: str, callback: Callable[..., None]) -> Callable[..., None]:
        """The callback, for the loop's add_reader and call_later: what it raises ends `broken`.

        A reader that raises would be called again at once and for ever, since what it did not read is still there.
        """

        def guarded(*arguments: object) -> None:
            try:
                callback(*arguments)
            except Exception as error:  # noqa: BLE001 - whatever it is, it ends the program with its name
                self.failed(name, error)
                self._break(Ended(f"{name}: {type(error).__name__}: {error}"))

        return guarded

    def _break(self, error: Ended) -> None:
        future = self._future()
        if not future.done():
            future.set_exception(error)

    def _future(self) -> asyncio.Future[None]:
        if self._fatal is None:
            self._fatal = asyncio.get_running_loop().create_future()
        return self._fatal

    async def broken(self) -> None:
        """Waits for ever; raises `Ended` when a guarded callback failed."""
        await self._future()

    # ------------------------------------------------------------ what may be started anew

    async def restarting(
        self,
        name: str,
        make: Callable[[], Coroutine[Any, Any, object]],
        fatal: tuple[type[Exception], ...] = (),
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Runs what `make` gives, and again after each end, however it ends; only `fatal` errors are passed on."""
        pause = FIRST
        while True:
            began = asyncio.get_running_loop().time()
            try:
                await together(Job(name, make()))
            except fatal:
                raise
            except Exception as error:  # noqa: BLE001 - counted and logged; what it does is tried again
                self.failed(name, error)
            pause = FIRST if asyncio.get_running_loop().time() - began >= STEADY else pause
            await sleep(pause)
            pause = min(LAST, pause * 2)
