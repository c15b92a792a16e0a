"""A folder of manifests as the file system has it: what a look finds, and what one file says.

Everything here blocks and is called in threads. A stamp stands for a file's content. Links are followed, of the folder
and of the files, so that a target that is rewritten elsewhere, on another machine, or by a writer that keeps its file
open shows too: inotify tells nothing then.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from controlplane.source.documents import Documents, Entry, parse
from deltaplane.bounded import read

SUFFIXES = {".yaml", ".yml", ".json"}
_TICK_NS = 2 * 10**9  # two writes this close to each other can have one mtime: FAT's is the coarsest clock
Identity = tuple[int, int]  # of a folder: device and inode


class Stamp(NamedTuple):
    """Of a file that a name leads to. `error`: the errno that is all that can be told of it."""

    device: int = 0
    inode: int = 0
    size: int = 0  # bytes
    mtime_ns: int = 0
    ctime_ns: int = 0  # also moves where a writer sets mtime back, and with the mode
    error: int = 0


UNKNOWN = Stamp(error=-1)  # no file is found to have it


class Look(Struct):
    """What a look found. `changed`: files that are other than known; None: the name leads nowhere (any more)."""

    folder: Identity
    changed: dict[str, Stamp | None]
    surplus: int  # files that are not looked at, because there are more than the limit


class Reading(Struct):
    """What became of reading a file. Without `documents`, `reason` says why; without both, it is gone.

    `stamp` is of before the reading, and UNKNOWN where another try may end differently though the file stays as it is.
    `doubtful`: it was written so shortly before that a later write may leave the same stamp. `torn`: somebody wrote
    while it was read; it counts as not read.
    """

    stamp: Stamp | None = None
    documents: Documents | None = None
    reason: str = ""
    doubtful: bool = False
    torn: bool = False


def is_manifest(name: str) -> bool:
    """Whether a file of this name is read: by suffix, and not hidden (editors' temporary files are)."""
    return not name.startswith(".") and Path(name).suffix in SUFFIXES


def identity(folder: Path) -> Identity:
    """Which folder the path leads to. Raises OSError."""
    found = folder.stat()
    return found.st_dev, found.st_ino


def look(folder: Path, known: Mapping[str, Stamp], limit: int) -> Look:
    """Compares each manifest with the stamp that is known; of new ones only as many as the limit allows.

    Raises OSError where the folder cannot be listed: nothing is taken for deleted then.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # one folder, should links be swapped
    try:
        found = os.fstat(descriptor)
        with os.scandir(descriptor) as entries:
            listed = {entry.name for entry in entries if is_manifest(entry.name)}
        names = list(known)  # at one stroke: another thread changes it
        new = sorted(listed.difference(names))
        room = max(0, limit - len(names))
        stamps = {name: _stamp(name, descriptor) for name in (*listed.intersection(names), *new[:room])}
    finally:
        os.close(descriptor)
    changed = {name: stamp for name, stamp in stamps.items() if stamp != known.get(name)}
    changed.update(dict.fromkeys(set(names) - listed))
    return Look((found.st_dev, found.st_ino), changed, max(0, len(new) - room))


def _stamp(path: str | Path, folder: int | None = None) -> Stamp | None:
    try:
        found = os.stat(path, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Stamp(error=error.errno or 0)
    return Stamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def reading(folder: Path, name: str, known: Mapping[str, tuple[Entry, ...]]) -> Reading:
    """Reads one file. `known`: what its documents said before, by text."""
    stamp = _stamp(folder / name)
    doubtful = stamp is not None and abs(time.time_ns() - stamp.ctime_ns) < _TICK_NS
    try:
        text = read(folder / name)
        if not _same_content(stamp, _stamp(folder / name)):
            return Reading(stamp, torn=True)
        return Reading(stamp, parse(text, known), doubtful=doubtful)
    except FileNotFoundError:
        return _gone(folder)
    except OSError as error:
        return Reading(UNKNOWN, reason=error.strerror or type(error).__name__)
    except ValueError as error:
        return Reading(stamp, reason=str(error), doubtful=doubtful)


def _same_content(before: Stamp | None, after: Stamp | None) -> bool:
    """Whether nothing was written, as far as stamps tell; another mode or name is no other content."""
    return before is not None and after is not None and before._replace(ctime_ns=0) == after._replace(ctime_ns=0)


def _gone(folder: Path) -> Reading:
    """A file is gone only where its folder is there."""
    try:
        os.scandir(folder).close()
    except OSError as error:
        return Reading(UNKNOWN, reason=f"its folder cannot be listed: {error.strerror}")
    return Reading()


def unfinished(path: Path) -> bool:
    """Whether a file that was just made will be written, and closed; links are complete when they are made."""
    try:
        found = path.lstat()
    except OSError:
        return True
    return not stat.S_ISLNK(found.st_mode) and found.st_nlink < 2
