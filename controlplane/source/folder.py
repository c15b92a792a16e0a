"""A folder of manifests in the file system: scans the folder, and reads one file.

Everything here blocks and runs in threads. A stamp identifies a file's content. Links of the folder and of files are
followed. So a scan also finds changes that inotify does not report: of a link's target, from another machine, or by a
writer that keeps its file open.
"""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from controlplane.source.documents import Documents, Entry, Readers, parse
from deltaplane.bounded import read

log = logging.getLogger(__name__)

SUFFIXES = {".yaml", ".yml", ".json"}
_TICK_NS = 2 * 10**9  # two writes within this time can have the same mtime; FAT has the coarsest clock
Identity = tuple[int, int]  # a folder's device and inode


class Stamp(NamedTuple):
    """Identifies the content of a file. `error`: the errno, if the file cannot be examined."""

    device: int = 0
    inode: int = 0
    size: int = 0  # bytes
    mtime_ns: int = 0
    ctime_ns: int = 0  # also changes when a writer sets mtime back, and with the mode
    error: int = 0


UNKNOWN = Stamp(error=-1)  # equal to no file's stamp


class Look(Struct):
    """The result of a scan. `changed`: files whose stamp differs from the known one; None: the file is gone."""

    folder: Identity
    changed: dict[str, Stamp | None]
    surplus: int  # files beyond the limit, which are ignored


class Reading(Struct):
    """The result of reading a file. Without `documents`, `reason` says why; without both, the file is gone.

    `stamp` is from before the reading; UNKNOWN if another try may differ although the file does not change. `doubtful`:
    the last write is so recent that a later one may leave the same stamp. `torn`: it was written while it was read, so
    the result does not count.
    """

    stamp: Stamp | None = None
    documents: Documents | None = None
    reason: str = ""
    doubtful: bool = False
    torn: bool = False


def is_manifest(name: str) -> bool:
    """Whether a file of this name is read: it has the suffix and is not hidden, as editors' temporary files are."""
    return not name.startswith(".") and Path(name).suffix in SUFFIXES


def identity(folder: Path) -> Identity:
    """The folder that the path leads to. Raises OSError."""
    found = folder.stat()
    return found.st_dev, found.st_ino


def look(folder: Path, known: Mapping[str, Stamp], limit: int) -> Look:
    """Compares each manifest with its known stamp; takes new ones up to the limit.

    Raises OSError if the folder cannot be listed; then nothing counts as deleted.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # the same folder, even if links change
    try:
        found = os.fstat(descriptor)
        with os.scandir(descriptor) as entries:
            listed = {entry.name for entry in entries if is_manifest(entry.name)}
        names = list(known)  # an atomic copy: another thread changes it
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


def reading(folder: Path, name: str, known: Mapping[str, tuple[Entry, ...]], readers: Readers) -> Reading:
    """Reads one file. `known`: the entries of its earlier documents, by text. `readers`: what else is read."""
    stamp = _stamp(folder / name)
    now = time.time_ns()  # noqa: TID251 - beside the file system's time
    doubtful = stamp is not None and abs(now - stamp.ctime_ns) < _TICK_NS
    try:
        text = read(folder / name)
        if not _same_content(stamp, _stamp(folder / name)):
            return Reading(stamp, torn=True)
        return Reading(stamp, parse(text, known, readers), doubtful=doubtful)
    except FileNotFoundError:
        return _gone(folder)
    except OSError as error:
        return Reading(UNKNOWN, reason=error.strerror or type(error).__name__)
    except MemoryError:  # the file may be well: read again at each look
        return Reading(UNKNOWN, reason="not enough memory")
    except ValueError as error:
        return Reading(stamp, reason=str(error), doubtful=doubtful)
    except Exception as error:  # whatever is wrong with one file, the others go on
        log.exception("reading %s: a defect, please report it", name)
        return Reading(stamp, reason=f"{type(error).__name__}: {error}", doubtful=doubtful)


def _same_content(before: Stamp | None, after: Stamp | None) -> bool:
    """Whether the stamps have the same content; mode and name do not matter."""
    return before is not None and after is not None and before._replace(ctime_ns=0) == after._replace(ctime_ns=0)


def _gone(folder: Path) -> Reading:
    """The result for a missing file: it is gone, unless its folder cannot be listed either."""
    try:
        os.scandir(folder).close()
    except OSError as error:
        return Reading(UNKNOWN, reason=f"its folder cannot be listed: {error.strerror}")
    return Reading()


def unfinished(path: Path) -> bool:
    """Whether a new file still waits for its writer to close it; links are complete at once."""
    try:
        found = path.lstat()
    except OSError:
        return True
    return not stat.S_ISLNK(found.st_mode) and found.st_nlink < 2
