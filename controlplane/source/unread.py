"""Which manifest files changed and are not taken in, since when, and which are to be read now. Pure; of `manifests`.

Events queue files at once: their writers are done. A look queues those that it finds changed and still, which means
that the look before found them so too; a file that is being written is not still, an empty one after a minute only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from controlplane.source.folder import Reading, Stamp

EMPTY_NS = 60 * 10**9  # `slow-program > file` empties the file at its start, and is not done
LATE_NS = 10 * 10**9  # a change that waits longer is a trouble; reading a usual file takes milliseconds
_SHOWN = 3


class _Wait(Struct, frozen=True):
    since: int  # unix, ns
    stamp: Stamp | None = None
    reason: str = ""


class Unread:
    """Times are unix time in nanoseconds. `taken`: the stamps of files as they were read; read by other threads too."""

    def __init__(self) -> None:
        self.taken: dict[str, Stamp] = {}
        self._queued: dict[str, int] = {}
        self._reading: dict[str, int] = {}
        self._changed: dict[str, _Wait] = {}
        self._failed: dict[str, _Wait] = {}
        self._doubtful: set[str] = set()

    def queue(self, name: str, now: int) -> None:
        """The file is to be read."""
        self._queued[name] = self._queued.get(name) or now

    def batch(self) -> Mapping[str, int]:
        """What is to be read now, and since when; it counts as unread until `done`. 0: it did not change, it seems."""
        self._reading, self._queued = self._queued, {}
        return self._reading

    def done(self) -> None:
        """What the batch said is taken in."""
        self._reading = {}

    def took(self, name: str, read: Reading, now: int) -> None:
        """The file was read, or could not be."""
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
        """Takes what a look found; `at_once`: without waiting until it is still. Whether there is something to read."""
        before, self._changed = self._changed, {}
        for name, stamp in changed.items():
            known = before.get(name)
            self._changed[name] = _Wait(known.since if known else now, stamp)
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
        """The files that are not taken in as they are, with the time since when."""
        found: dict[str, int] = {}
        for name, since in self._waits():
            if since:
                found[name] = min(since, found.get(name, since))
        return found

    def late(self, now: int) -> list[str]:
        """The changes that wait for too long, and not because a file cannot be read: that is told for the file."""
        return sorted(
            name for name, since in self.waiting().items() if now - since > LATE_NS and name not in self._failed
        )

    def trouble(self, now: int) -> str:
        """Why not all is as it should be; empty: all is read, or soon will be."""
        failed = {name: wait.reason for name, wait in list(self._failed.items())}
        texts = dict.fromkeys(self.late(now), "changed and not read yet") | failed
        if not texts:
            return ""
        shown = [f"{name}: {text}" for name, text in sorted(texts.items())]
        more = f"; and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
        return "not all files are read: " + "; ".join(shown[:_SHOWN]) + more


def _still(before: _Wait | None, stamp: Stamp | None, now: int) -> bool:
    """Whether the look before found the file as this one does, and its writer seems to be done."""
    if before is None or before.stamp != stamp:
        return False
    return stamp is None or stamp.size > 0 or stamp.error != 0 or now - before.since >= EMPTY_NS
