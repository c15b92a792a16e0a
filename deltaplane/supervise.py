"""No task, callback or thread of a program ends unnoticed. Both programs run all that they do through this.

A cancelled child is an end as any other: `asyncio.TaskGroup` and `asyncio.wait` take it for none. What must not end
goes to `together`, which ends with an error that names it; what may be started anew goes to `restarting`. What
callbacks of the loop raise, which reaches nobody, is counted (`Watch.install`).
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from math import inf
from typing import Any, NamedTuple

from deltaplane.backoff import Backoff, Retries
from deltaplane.logs import event
from deltaplane.once import Once
from deltaplane.open_files import exhausted

log = logging.getLogger(__name__)

LAST = 60.0
RESTARTS = Backoff(1.0, LAST)  # seconds before a task is started anew, after ends in a row that come soon
STEADY = 60.0  # seconds: what ran so long begins the row again
FILES, FILES_SAID = "open files", 600.0  # a name; seconds between two lines that there are none left
TEXTS = 1000  # that are logged: an error can have another text each time


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


def at_signal() -> asyncio.Event:
    """An event of the running loop that SIGTERM or SIGINT sets, from now on."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


class Watch:
    """Counts what failed, by name, and logs it; each text once."""

    def __init__(self) -> None:
        self.failures: Counter[str] = Counter()
        self._said = Once[tuple[str, str]]()
        self._files_said = -inf  # when it was last said that no file can be opened

    def failed(self, name: str, error: BaseException | str) -> None:
        """Something failed and the program goes on."""
        if reason := exhausted(error):
            self._out_of_files(name, reason)
            return
        self.failures[name] += 1
        text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        if len(self._said) < TEXTS and self._said.note((name, text)):
            event(log, logging.ERROR, "failed; it goes on", task=name, error=text)
            if isinstance(error, BaseException):
                log.error("%s: a defect, please report it", name, exc_info=error)

    def _out_of_files(self, name: str, reason: str) -> None:
        self.failures[FILES] += 1
        now = time.monotonic()
        if now - self._files_said >= FILES_SAID:
            self._files_said = now
            event(log, logging.ERROR, "out of files; it goes on and tries again", task=name, reason=reason)

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

    # ------------------------------------------------------------ what may be started anew

    async def restarting(
        self,
        name: str,
        make: Callable[[], Coroutine[Any, Any, object]],
        fatal: tuple[type[Exception], ...] = (),
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Runs what `make` gives, and again after each end, however it ends; only `fatal` errors are passed on."""
        retries = Retries(RESTARTS)
        while True:
            began = asyncio.get_running_loop().time()
            try:
                await together(Job(name, make()))
            except fatal:
                raise
            except Exception as error:  # noqa: BLE001 - counted and logged; what it does is tried again
                self.failed(name, error)
            if asyncio.get_running_loop().time() - began >= STEADY:
                retries.succeeded()
            await sleep(retries.failed())
