"""A directory of Kubernetes YAML or JSON as the source of objects, followed live: no cluster needed.

inotify reports at once what is written, renamed, created and removed in the folder. A scan every few seconds (`folder`)
finds what inotify does not report, and retries what could not be read. Only files that changed are read again, and only
objects that changed reach the sink. `unread` decides what to read, `documents` parses, and `claims` decides which file
counts for an object.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
from asyncinotify import Inotify

from controlplane.errors import SourceError
from controlplane.facts import Fact, Following, Reporter, Sink
from controlplane.notices import Notice
from controlplane.source import folder
from controlplane.source.claims import Claims
from controlplane.source.cluster_file import in_folder
from controlplane.source.documents import Readers
from controlplane.source.inotify import Touched, note, watch
from controlplane.source.portions import feed, feed_list
from controlplane.source.reports import Reports
from controlplane.source.translate import TYPES
from controlplane.source.unread import Unread
from deltaplane import moments
from deltaplane.logs import event
from deltaplane.model import Kind, Object, ObjectKey
from deltaplane.once import Once
from deltaplane.threads import in_thread

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
_SHARE = 20  # a scan waits at least this many times the processor time of the last one
_HUNG_SECONDS = 10.0  # a longer scan is logged: a network file system does not answer
_MANY = 10  # Services that go: what follows soon is the same change
_SOON_SECONDS, _GATHER_SECONDS = 0.25, 5.0  # how soon, and for how long at most
MOST_FILES = 100_000


class More(msgspec.Struct, frozen=True):
    """What is read beside the stream's kinds, and of which kinds that is. The sink gets their lists first."""

    kinds: tuple[Kind, ...] = ()
    readers: Readers = {}


class ManifestSource:
    """`run` follows the directory until cancelled. Raises `SourceError` if it does not exist at the start.

    If the directory disappears later, its last state stays until the directory is back.
    """

    def __init__(
        self,
        directory: str | Path,
        sink: Sink,
        reporter: Reporter,
        identify: Callable[[str], None] = lambda _: None,
        more: More | None = None,
    ) -> None:
        self._directory = Path(directory)
        self._more = more or More()
        self._identify = identify
        self._sink = sink
        self._reports = Reports(reporter)
        self._claims = Claims(str(directory), self._reports)
        self._unread = Unread()
        self._touched = Touched(self._unread)
        self._watched: folder.Identity | None = None
        self._error, self._since = "not read yet", moments.unix_nano()
        self._said = Once[str]()
        self.requests: Counter[tuple[str, str, str]] = Counter()  # empty: there is no API server
        self._told: dict[ObjectKey, Object] = {}

    @property
    def following(self) -> list[Following]:
        """How the directory is followed."""
        waiting = self._unread.waiting()
        oldest = min(waiting.values(), default=0)
        error, since = self._error, self._since
        if not error:
            error = self._unread.trouble(moments.unix_nano())
            since = oldest if error else since
        return [Following(str(self._directory), since, error, unread=len(waiting), unread_since_unix_nano=oldest)]

    def _state(self, error: str) -> None:
        if error == self._error:
            return
        self._error, self._since = error, moments.unix_nano()
        self._reports.record(str(self._directory), (error,) if error else ())

    def tell(self, notice: Notice) -> None:
        """No effect: a directory has no place for notices; the log has them (notices.Notices)."""

    async def run(self) -> None:
        inotify = await self._start()
        try:
            await self._load()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._reads())
                tasks.create_task(self._looks(tasks, tasks.create_task(note(inotify, self._touched))))
        finally:
            inotify.close()

    async def _start(self) -> Inotify:
        """Starts the watch before the directory is listed, so that nothing is missed."""
        try:
            self._watched, inotify = await in_thread(lambda: watch(self._directory))
        except OSError as error:
            raise SourceError(
                f"cannot follow manifests directory {self._directory}: {error.strerror}: check --manifests"
            ) from error
        return inotify

    async def _load(self) -> None:
        """Loads the initial state, as one list per kind."""
        if cluster_id := await in_thread(lambda: in_folder(self._directory)):
            self._identify(cluster_id)
        try:
            found, _ = await self._look()
        except OSError as error:
            raise SourceError(f"cannot list manifests directory {self._directory}: {error.strerror}") from error
        self._take(found, at_once=True)
        touched = await self._put(self._unread.batch())
        facts = [
            fact for fact in map(self._claims.fact, sorted(touched)) if fact is not None and fact.object is not None
        ]
        self._told = {fact.key: fact.object for fact in facts if fact.object is not None}
        for kind in (*self._more.kinds, *TYPES):
            await feed_list(self._sink, (fact for fact in facts if fact.key.kind is kind))
            self._sink.replace(kind, [fact for fact in facts if fact.key.kind is kind], "")
            self._sink.synced(kind)
        self._unread.done()
        self._state("")
        event(log, logging.INFO, "manifests loaded", directory=self._directory, objects=len(facts))

    async def _looks(self, tasks: asyncio.TaskGroup, reader: asyncio.Task[None]) -> None:
        """Scans every few seconds, and at once when inotify asks for it. Follows the path if it leads elsewhere."""
        pause = LOOK_SECONDS
        while True:
            at_once = await self._due(pause)
            try:
                found, seconds = await self._look()
                if self._touched.gone or found.folder != self._watched:
                    reader = await self._rewatch(tasks, reader)
                    found, seconds = await self._look()
                    at_once = True
            except OSError as error:
                self._state(_unlisted(error))
            else:
                self._state("")
                self._take(found, at_once=at_once)
                pause = max(LOOK_SECONDS, _SHARE * seconds)
            self._tell_late()

    async def _due(self, pause: float) -> bool:
        """Waits for the next scan; returns whether inotify asks for it."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._touched.look.wait(), pause)
        asked = self._touched.look.is_set()
        self._touched.look.clear()
        return asked

    async def _look(self) -> tuple[folder.Look, float]:
        """Scans the folder; returns the result and the processor time in seconds. Raises OSError."""
        task = asyncio.ensure_future(in_thread(self._timed_look))
        try:
            if not (await asyncio.wait({task}, timeout=_HUNG_SECONDS))[0]:
                self._state("the directory's file system does not answer; what it said stays")
            return await task
        finally:
            task.cancel()

    def _timed_look(self) -> tuple[folder.Look, float]:
        start = time.thread_time()
        found = folder.look(self._directory, self._unread.taken, MOST_FILES)
        return found, time.thread_time() - start

    async def _rewatch(self, tasks: asyncio.TaskGroup, reader: asyncio.Task[None]) -> asyncio.Task[None]:
        """Watches the folder that the path leads to now. Raises OSError."""
        self._watched, inotify = await in_thread(lambda: watch(self._directory))
        self._touched.gone = False
        reader.cancel()
        event(log, logging.INFO, "another manifests directory is in place", directory=self._directory)
        return tasks.create_task(note(inotify, self._touched))

    def _take(self, found: folder.Look, *, at_once: bool) -> None:
        most = f"there are more files than the limit of {MOST_FILES}: {found.surplus} are not read"
        self._reports.record(f"{self._directory} files", (most,) if found.surplus else ())
        if self._unread.seen(found.changed, moments.unix_nano(), at_once=at_once):
            self._touched.read.set()

    def _tell_late(self) -> None:
        """Logs once when changes wait for too long, and once when they are read."""
        late = self._unread.late(moments.unix_nano())
        if late and self._said.note("late"):
            event(
                log, logging.WARNING, "manifest files changed and are not read yet", files=len(late), first=late[0],
                directory=self._directory,
            )  # fmt: skip
        elif not late and self._said.clear("late"):
            event(log, logging.INFO, "manifest files are read again", directory=self._directory)

    async def _reads(self) -> None:
        """Reads the queued files and passes the differences to the sink."""
        while True:
            await self._touched.read.wait()
            touched, moment = await self._gather()
            await feed(self._sink, [fact for key in sorted(touched) for fact in self._difference(key, moment)])
            self._unread.done()

    async def _gather(self) -> tuple[set[ObjectKey], int]:
        """Reads the queued files: what they touch, and since when.

        While many Services go, what is queued a moment later belongs to the same change: a folder is not emptied at one
        stroke, and the agents' safety brake judges a change as a whole.
        """
        touched: set[ObjectKey] = set()
        times: list[int] = []
        end = time.monotonic() + _GATHER_SECONDS
        while True:
            self._touched.read.clear()
            batch = self._unread.batch()
            times += filter(None, batch.values())
            touched |= await self._put(batch)
            if self._going(touched) < _MANY or time.monotonic() > end or not await self._more_soon():
                return touched, min(times, default=moments.unix_nano())

    def _going(self, touched: Iterable[ObjectKey]) -> int:
        """How many Services go."""
        told = (key for key in touched if key.kind is Kind.SERVICE and key in self._told)
        return sum(fact is None or fact.object is None for fact in map(self._claims.fact, told))

    async def _more_soon(self) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._touched.read.wait(), _SOON_SECONDS)
        return self._touched.read.is_set()

    async def _put(self, batch: Mapping[str, int]) -> set[ObjectKey]:
        touched: set[ObjectKey] = set()
        for name in self._admitted(batch):
            touched |= await self._put_file(name)
        return touched

    def _admitted(self, names: Iterable[str]) -> list[str]:
        """The files to read: known ones, and new ones up to the limit."""
        known = self._unread.taken
        old, new = [name for name in names if name in known], sorted(name for name in names if name not in known)
        return sorted([*old, *new[: max(0, MOST_FILES - len(known))]])

    async def _put_file(self, name: str) -> set[ObjectKey]:
        known = self._claims.documents(name)
        read = await in_thread(lambda: folder.reading(self._directory, name, known, self._more.readers))
        self._unread.took(name, read, moments.unix_nano())
        if read.documents is not None:
            self._claims.unreadable(name, "")
            return self._claims.put(name, read.documents)
        if not read.reason:
            return self._claims.drop(name)
        self._claims.unreadable(name, f"cannot be read: {read.reason}; what it last said stays")
        return set()

    def _difference(self, key: ObjectKey, moment: int) -> Iterable[Fact]:
        fact = self._claims.fact(key) or Fact(key, None)
        if fact.object == self._told.get(key):
            return ()
        if fact.object is None:
            self._told.pop(key, None)
        else:
            self._told[key] = fact.object
        return (msgspec.structs.replace(fact, event_unix_nano=moment),)


def _unlisted(error: OSError) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "the directory is gone: put it back; what it said stays"
    return f"the directory cannot be followed: {error.strerror}; what it said stays"
