"""Files in the agent's state folder, opened so that no file of another user is read or written. Called by the journal.

The agent runs as root: a link, a FIFO or a hard link in a folder that others may write to would lead it elsewhere. So
the folder is ours and 0700, a file is ours, regular, has one name, and is 0600; nothing waits for a FIFO's other end.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deltaplane.logs import event

log = logging.getLogger(__name__)

SERVERS, SERVERS_FRESH = "servers.json", "servers.new"  # the last good list of servers (`last_good`)
RELEASE = "release-brake"  # an operator makes it to release the safety brake of this node
CLOCK_STEP = 10**9  # nanoseconds by which the clock of files may be behind
_SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WIDE = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class RefusedError(OSError):
    """A file or folder that is not as the agent makes it; the text names what to do."""


@contextmanager
def folder(path: Path, own: frozenset[str]) -> Iterator[int]:
    """A descriptor of the folder, which is made where it lacks. `own`: the names of what we put there.

    A folder of ours that is open to others is closed to them, unless it has more in it than ours. Raises OSError.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENOTDIR):
            raise
        raise RefusedError(f"{path} is a link; give --state-dir the folder itself") from error
    try:
        _check_folder(path, descriptor, own)
        yield descriptor
    finally:
        os.close(descriptor)


def _check_folder(path: Path, descriptor: int, own: frozenset[str]) -> None:
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid():
        raise RefusedError(
            f"{path} belongs to user {status.st_uid} and this agent runs as {os.geteuid()}; "
            f"chown it, or give --state-dir another folder"
        )
    if not status.st_mode & _WIDE:
        return
    if own.issuperset(os.listdir(descriptor)):
        with _where_it_can_be_written():
            os.fchmod(descriptor, 0o700)
    elif status.st_mode & _OTHERS_WRITE:
        raise RefusedError(
            f"others may write to {path}, and it has files of others; chmod it to 0700, or give --state-dir "
            f"a folder of its own"
        )


def open_file(folder: int, name: str, *, append: bool = False) -> int:
    """A descriptor of an existing file of ours. Raises OSError."""
    access = os.O_WRONLY | os.O_APPEND if append else os.O_RDONLY
    try:
        descriptor = os.open(name, access | _SAFE, dir_fd=folder)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise RefusedError(f"{name} is a link, not a file; remove it") from error
    try:
        _check_file(name, os.fstat(descriptor))
        with _where_it_can_be_written():
            os.fchmod(descriptor, 0o600)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _check_file(name: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise RefusedError(f"{name} is not a regular file; remove it")
    if status.st_uid != os.geteuid():
        raise RefusedError(f"{name} belongs to user {status.st_uid}, not to this agent; remove it")
    if status.st_nlink != 1:
        raise RefusedError(f"{name} has {status.st_nlink} names (hard links); remove it")


def create(folder: int, name: str) -> int:
    """A descriptor of a new file, to be appended to; what stood in its place is removed. Raises OSError."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)  # a link itself goes, not what it leads to
    return os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | _SAFE, 0o600, dir_fd=folder)


def count(folder: int, name: str) -> int:
    """How often this was called since the file was last removed. Raises OSError."""
    descriptor = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _SAFE, 0o600, dir_fd=folder)
    try:
        status = os.fstat(descriptor)
        _check_file(name, status)
        write(descriptor, b".")
    finally:
        os.close(descriptor)
    return status.st_size


def lock(folder: int, name: str) -> int:
    """A descriptor that holds the folder for this process until it is closed. Raises OSError while another has it."""
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | _SAFE, 0o600, dir_fd=folder)
    try:
        _check_file(name, os.fstat(descriptor))
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise OSError(errno.EBUSY, "another agent keeps its state there; give each its own --state-dir") from error
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def put(folder: int, fresh: str, name: str, data: bytes) -> int:
    """Writes a whole file beside the old one, syncs it and renames it over that. Its descriptor; raises OSError."""
    descriptor = create(folder, fresh)
    try:
        write(descriptor, data)
        os.fsync(descriptor)
        os.replace(fresh, name, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def write(descriptor: int, data: bytes) -> None:
    """All of it. Raises OSError."""
    written = os.write(descriptor, data)
    if written != len(data):
        raise OSError(errno.ENOSPC, f"{written} of {len(data)} bytes written")


@contextmanager
def _where_it_can_be_written() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.EROFS:
            raise


def taken(file: Path | None, since: int) -> bool:
    """Whether an operator has made this file, to release what is held since then (Unix nanoseconds).

    It is taken away, so that it counts once. One that is older was meant for an earlier hold and does not count.
    """
    if file is None:
        return False
    try:
        made = file.lstat().st_mtime_ns
        file.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        event(log, logging.WARNING, "cannot take the file away", file=file, error=error.strerror)
        return False
    if made + CLOCK_STEP < since:
        event(log, logging.WARNING, "a file of before the hold is taken away and releases nothing", file=file)
        return False
    return True
