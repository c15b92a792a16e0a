"""The inotify events of a folder of manifests: files whose writers are done, and when to scan the folder at once.

It handles editors that write in place, editors that write another file and rename it, and the `..data` link of a
mounted ConfigMap. `folder.look` finds what inotify does not report.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from asyncinotify import Event, Inotify, Mask

from controlplane.source import folder
from controlplane.source.unread import Unread
from deltaplane import moments

_CONFIG_MAP_LINK = "..data"  # the kubelet replaces it when a mounted ConfigMap changes
_GONE = Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.UNMOUNT | Mask.IGNORED
_MASK = (
    Mask.CLOSE_WRITE | Mask.MOVED_TO | Mask.MOVED_FROM | Mask.CREATE | Mask.DELETE
    | Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.ONLYDIR
)  # fmt: skip
"""Neither MODIFY nor ATTRIB: a file may be half written then. A look finds what they would tell, when it is still."""


class Touched:
    """Collects events, so that a burst is read once. `gone`: the watch no longer follows the path."""

    def __init__(self, unread: Unread) -> None:
        self._unread = unread
        self.read = asyncio.Event()  # files are queued
        self.look = asyncio.Event()  # scan the folder at once
        self.gone = False

    def add(self, received: Event) -> None:
        """Takes one event."""
        name = str(received.name or "")
        if received.mask & _GONE:
            self.gone = True
            self.look.set()
        elif received.mask & Mask.Q_OVERFLOW or name == _CONFIG_MAP_LINK:
            self.look.set()
        elif folder.is_manifest(name) and not _unfinished(received):
            self._unread.queue(name, moments.unix_nano())
            self.read.set()


def _unfinished(received: Event) -> bool:
    return bool(received.mask & Mask.CREATE) and received.path is not None and folder.unfinished(received.path)


def watch(directory: Path) -> tuple[folder.Identity, Inotify]:
    """A watch on the folder that the path leads to, and the identity of that folder. Raises OSError. Blocks."""
    which = folder.identity(directory)  # first: if another folder replaces it now, the next scan finds out
    inotify = Inotify()
    try:
        inotify.add_watch(directory, _MASK)
    except OSError:
        inotify.close()
        raise
    return which, inotify


async def note(inotify: Inotify, touched: Touched) -> None:
    """Collects events until cancelled, and closes the watch."""
    with inotify:
        async for received in inotify:
            touched.add(received)
