"""Which manifest files have changed and are not read yet, since when, and which to read now. Pure; for `manifests`.

inotify events queue files at once, because their writers are done. A scan queues changed files that are stable: the
previous scan found the same stamp. An empty file is stable only after a minute.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from controlplane.source.folder import Reading, Stamp

EMPTY_NS = 60 * 10**9  # `slow-program > file` empties the file at its start
LATE_NS = 10 * 10**9  # a change that waits longer is reported; reading a usual file takes milliseconds
_SHOWN = 3


class _Wait(Struct, frozen=True):
    since: int  # unix, ns
    stamp: Stamp | None = None
    reason: str = ""


class Unread:
    """Times are Unix nanoseconds. `taken`: the stamps of the files as they were read; other threads read it too."""

    def __init__(self) -> None:
        self.taken: dict[str, Stamp] = {}
        self._queued: dict[str, int] = {}
        self._reading: dict[str, int] = {}
        self._changed: dict[str, _Wait] = {}
        self._failed: dict[str, _Wait] = {}
        self._doubtful: set[str] = set()

    def queue(self, name: str, now: int) -> None:
        """Queues the file."""
        self._queued[name] = self._queued.get(name) or now

    def batch(self) -> Mapping[str, int]:
        """The files to read, with the times of their changes (0: probably unchanged). They are unread until `done`."""
        self._reading, self._queued = self._queued, {}
        return self._reading

    def done(self) -> None:
        """The batch has been processed."""
        self._reading = {}

    def took(self, name: str, read: Reading, now: int) -> None:
        """The file was read, or reading failed."""
        if read.torn:
            self._changed.setdefault(name, _Wait(now))
            return
        if read.stamp is None:
            self.taken.pop(name, None)
        else:
            self.taken[name] = read.stamp
        if read.doubtful:
            self._doubtful.add(name)
        if read.reason:
            since = self._failed[name].since if name in self._failed else now
            self._failed[name] = _Wait(since, read.stamp, read.reason)
        else:
            self._failed.pop(name, None)
            self._changed.pop(name, None)

    def seen(self, changed: Mapping[str, Stamp | None], now: int, *, at_once: bool) -> bool:
        """Takes a scan's result; returns whether there is something to read. `at_once`: also unstable files."""
        before, self._changed = self._changed, {}
        for name, stamp in changed.items():
            known = before.get(name)
            self._changed[name] = _Wait(min(known.since, now) if known else now, stamp)  # the clock may be put back
            if name not in self._reading and (at_once or _still(known, stamp, now)):
                self.queue(name, self._changed[name].since)
        doubtful, self._doubtful = self._doubtful, set()
        for name in doubtful - self._reading.keys() - changed.keys():
            self._queued.setdefault(name, 0)
        return bool(self._queued)

    def _waits(self) -> Iterator[tuple[str, int]]:
        yield from list(self._queued.items())
        yield from list(self._reading.items())
        for waits in (self._changed, self._failed):
            yield from ((name, wait.since) for name, wait in list(waits.items()))

    def waiting(self) -> dict[str, int]:
        """The unread files, with the time since when."""
        found: dict[str, int] = {}
        for name, since in self._waits():
            if since:
                found[name] = min(since, found.get(name, since))
        return found

    def late(self, now: int) -> list[str]:
        """The changes that wait for too long; not of unreadable files, which are reported themselves."""
        return sorted(
            name for name, since in self.waiting().items() if now - since > LATE_NS and name not in self._failed
        )

    def trouble(self, now: int) -> str:
        """A text on what is not read; empty: everything is read, or will be soon."""
        failed = {name: wait.reason for name, wait in list(self._failed.items())}
        texts = dict.fromkeys(self.late(now), "changed and not read yet") | failed
        if not texts:
            return ""
        shown = [f"{name}: {text}" for name, text in sorted(texts.items())]
        more = f"; and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
        return "not all files are read: " + "; ".join(shown[:_SHOWN]) + more


def _still(before: _Wait | None, stamp: Stamp | None, now: int) -> bool:
    """Whether the file is stable: the previous scan found the same stamp. An empty file has to be a minute old."""
    if before is None or before.stamp != stamp:
        return False
    return stamp is None or stamp.size > 0 or stamp.error != 0 or now - before.since >= EMPTY_NS
