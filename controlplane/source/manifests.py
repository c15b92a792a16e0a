"""A directory of Kubernetes YAML or JSON as the source of objects, followed live by inotify: no cluster needed.

Only the file that changed is read again; only the objects that changed reach the sink. Editors that write in place and
those that write aside and rename are both followed, and so is the `..data` link of a mounted ConfigMap. What a document
says is decided in `documents`, which file's word counts in `claims`; here is the file system.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from asyncinotify import Event, Inotify, Mask

from controlplane.errors import SourceError
from controlplane.facts import Fact, Following, Reporter, Sink
from controlplane.notices import Notice
from controlplane.source.claims import Claims
from controlplane.source.documents import parse
from controlplane.source.identity import in_folder
from controlplane.source.portions import feed, feed_list
from controlplane.source.reports import Reports
from controlplane.source.translate import TYPES
from deltaplane.bounded import read
from deltaplane.logs import event
from deltaplane.model import Object, ObjectKey
from deltaplane.threads import in_thread

log = logging.getLogger(__name__)

SUFFIXES = {".yaml", ".yml", ".json"}
_CONFIG_MAP_LINK = "..data"  # the kubelet swaps it when a mounted ConfigMap changes
_GONE = Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.UNMOUNT | Mask.IGNORED
_MASK = (
    Mask.CLOSE_WRITE | Mask.MOVED_TO | Mask.MOVED_FROM | Mask.CREATE | Mask.DELETE | Mask.DELETE_SELF | Mask.MOVE_SELF
)
_RETRY_SECONDS = 1.0
MOST_FILES = 100_000


class _Touched:
    """What inotify said since the last look: file names, and whether everything must be looked at."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.all = False
        self.gone = False
        self.wake = asyncio.Event()
        self.first_ns = 0

    def add(self, received: Event) -> None:
        name = str(received.name or "")
        if received.mask & _GONE:
            self.gone = True
        elif received.mask & Mask.Q_OVERFLOW or name == _CONFIG_MAP_LINK:
            self.all = True
        elif is_manifest(name) and not _unfinished(received):
            self.names.add(name)
        else:
            return
        self.first_ns = self.first_ns or time.time_ns()
        self.wake.set()


def _unfinished(received: Event) -> bool:
    """A file just made is written next, and closed; links are complete when they are made."""
    path = received.path
    return bool(received.mask & Mask.CREATE) and path is not None and not path.is_symlink() and _links(path) < 2


def _links(path: Path) -> int:
    try:
        return path.stat().st_nlink
    except OSError:
        return 0


def is_manifest(name: str) -> bool:
    """Whether a file of this name is read: by suffix, and not hidden (editors' temporary files are)."""
    return not name.startswith(".") and Path(name).suffix in SUFFIXES


class ManifestSource:
    """`run` follows the directory until cancelled. Raises `SourceError` when it is not there at the start.

    Should the directory go away later, its last state stays, and it is looked for again.
    """

    def __init__(
        self, directory: str | Path, sink: Sink, reporter: Reporter, identify: Callable[[str], None] = lambda _: None
    ) -> None:
        self._directory = Path(directory)
        self._identify = identify
        self._sink = sink
        self._reports = Reports(reporter)
        self._claims = Claims(str(directory), self._reports)
        self._error, self._since = "not read yet", time.time_ns()
        self.requests: Counter[tuple[str, str, str]] = Counter()  # none: there is no API server
        self._told: dict[ObjectKey, Object] = {}

    @property
    def following(self) -> list[Following]:
        """How the directory is followed."""
        return [Following(str(self._directory), self._since, self._error)]

    def _state(self, error: str) -> None:
        self._error, self._since = error, time.time_ns()
        self._reports.record(str(self._directory), (error,) if error else ())

    def tell(self, notice: Notice) -> None:
        """A directory has no place for it; the log has it (notices.Notices)."""

    async def run(self) -> None:
        with self._watch() as inotify:
            await self._load()
            await self._follow(inotify)
        while True:
            self._state("the directory is gone: put it back; what it said stays")
            await asyncio.sleep(_RETRY_SECONDS)
            try:
                inotify = self._watch()
            except SourceError:
                continue
            with inotify:
                self._state("")
                await self._read(self._every_name(), time.time_ns())
                await self._follow(inotify)

    def _watch(self) -> Inotify:
        """A watch on the directory, in place before it is listed so that nothing is missed."""
        inotify = Inotify()
        try:
            inotify.add_watch(self._directory, _MASK | Mask.ONLYDIR)
        except OSError as error:
            inotify.close()
            raise SourceError(
                f"cannot follow manifests directory {self._directory}: {error.strerror}: check --manifests"
            ) from error
        return inotify

    def _listed(self) -> set[str]:
        try:
            return {path.name for path in self._directory.iterdir() if is_manifest(path.name)}
        except OSError as error:
            raise SourceError(f"cannot list manifests directory {self._directory}: {error.strerror}") from error

    def _every_name(self) -> set[str]:
        """What is there and what was there; none when that cannot be told, so that nothing is taken for deleted."""
        try:
            return self._listed() | self._claims.names
        except SourceError:
            return set()

    async def _load(self) -> None:
        """The initial state, one list per kind."""
        if cluster_id := in_folder(self._directory):
            self._identify(cluster_id)
        touched = await self._put(self._listed())
        facts = [
            fact for fact in map(self._claims.fact, sorted(touched)) if fact is not None and fact.object is not None
        ]
        self._told = {fact.key: fact.object for fact in facts if fact.object is not None}
        for kind in TYPES:
            await feed_list(self._sink, (fact for fact in facts if fact.key.kind is kind))
            self._sink.replace(kind, [fact for fact in facts if fact.key.kind is kind], "")
            self._sink.synced(kind)
        self._error, self._since = "", time.time_ns()
        event(log, logging.INFO, "manifests loaded", directory=self._directory, objects=len(facts))

    async def _follow(self, inotify: Inotify) -> None:
        """Until the directory is gone. The reader only notes names, so that a burst is read once."""
        touched = _Touched()
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(_note(inotify, touched))
            while not touched.gone:
                await touched.wake.wait()
                touched.wake.clear()
                names, touched.names = touched.names, set()
                moment, touched.first_ns = touched.first_ns, 0
                if touched.all and not touched.gone:
                    touched.all = False
                    names = self._every_name()
                await self._read(names, moment)
            reader.cancel()

    async def _read(self, names: Iterable[str], moment: int) -> None:
        """Reads the files and tells the sink what is different."""
        touched = await self._put(names)
        await feed(self._sink, [fact for key in sorted(touched) for fact in self._difference(key, moment)])

    async def _put(self, names: Iterable[str]) -> set[ObjectKey]:
        touched: set[ObjectKey] = set()
        for name in self._admitted(names):
            touched |= await self._put_file(name)
        return touched

    def _admitted(self, names: Iterable[str]) -> list[str]:
        """The files that are read: those that were read before, and new ones as long as there are not too many."""
        known = self._claims.names
        old, new = [name for name in names if name in known], sorted(name for name in names if name not in known)
        room = max(0, MOST_FILES - len(known))
        most = f"there are more files than the limit of {MOST_FILES}: {len(new) - room} are not read"
        self._reports.record(f"{self._directory} files", (most,) if len(new) > room else ())
        return sorted([*old, *new[:room]])

    async def _put_file(self, name: str) -> set[ObjectKey]:
        known = self._claims.documents(name)
        try:
            documents = await in_thread(lambda: parse(read(self._directory / name), known))
        except FileNotFoundError:
            return self._claims.drop(name)
        except (OSError, ValueError) as error:  # not of its text: that is reported for the document
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self._claims.unreadable(name, f"cannot be read: {reason}; what it last said stays")
            return set()
        self._claims.unreadable(name, "")
        return self._claims.put(name, documents)

    def _difference(self, key: ObjectKey, moment: int) -> Iterable[Fact]:
        fact = self._claims.fact(key) or Fact(key, None)
        if fact.object == self._told.get(key):
            return ()
        if fact.object is None:
            self._told.pop(key, None)
        else:
            self._told[key] = fact.object
        return (msgspec.structs.replace(fact, event_unix_nano=moment),)


async def _note(inotify: Inotify, touched: _Touched) -> None:
    async for received in inotify:
        touched.add(received)
