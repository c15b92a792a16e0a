"""The journal's files in their folder: opened, replaced, appended to, set aside. Called by `journal`.

A new file is written beside the old file, synced and renamed over it. An append is one write and no fsync.
Methods raise OSError.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from nodeagent.stream import frames, state_folder
from nodeagent.stream.frames import Replay

NAME, FRESH, BAD, TRYING, LOCK = "state.journal", "state.new", "state.bad", "state.trying", "state.lock"
OTHERS = (state_folder.RELEASE, state_folder.SERVERS, state_folder.SERVERS_FRESH)
NAMES = frozenset((NAME, FRESH, BAD, TRYING, LOCK, *OTHERS))


class JournalFile:
    """One file, and what stands beside it. `size`: bytes of good frames in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._file: int | None = None
        self._lock: int | None = None

    @property
    def is_open(self) -> bool:
        return self._file is not None

    def read(self) -> Replay:
        """Its good frames. Raises FileNotFoundError, `frames.ForeignError` too."""
        with self._folder() as folder:
            descriptor = state_folder.open_file(folder, NAME)
        with os.fdopen(descriptor, "rb") as file:
            return frames.read(file)

    def reopen(self, size: int) -> None:
        """Opens it to append after so many bytes; the rest is cut off."""
        self.size = size
        with self._folder() as folder:
            self._lock_folder(folder)
            self._file = state_folder.open_file(folder, NAME, append=True)
        os.ftruncate(self._file, size)

    def begin(self, content: bytes) -> None:
        """Replaces it by one with this content, which is on disk then. Where that fails, the old one stays, closed."""
        self.stop()
        with self._folder() as folder:
            self._lock_folder(folder)
            try:
                self._file = state_folder.put(folder, FRESH, NAME, content)
            except OSError:
                with suppress(OSError):
                    os.unlink(FRESH, dir_fd=folder)
                raise
        self.size = len(content)

    def append(self, data: bytes) -> None:
        """Adds frames to an open file."""
        if self._file is not None:
            state_folder.write(self._file, data)
            self.size += len(data)

    def check(self) -> None:
        """Raises FileNotFoundError where an open file has been removed."""
        if self._file is not None and os.fstat(self._file).st_nlink == 0:
            raise FileNotFoundError("the file was removed")

    def set_aside(self) -> Path:
        """Renames it to `state.bad`, which is returned."""
        with self._folder() as folder:
            self._lock_folder(folder)
            os.replace(NAME, BAD, src_dir_fd=folder, dst_dir_fd=folder)
        return self.path.with_name(BAD)

    def count_try(self) -> int:
        """How often this was called since `tried`. It is a file's size, so that any end of the process counts."""
        with self._folder() as folder:
            return state_folder.count(folder, TRYING)

    def tried(self) -> None:
        """Counts from 0 again."""
        with self._folder() as folder:
            os.unlink(TRYING, dir_fd=folder)

    def stop(self) -> None:
        """Closes the file; the folder stays locked."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def close(self) -> None:
        """Closes the file and unlocks the folder."""
        self.stop()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def remove(self) -> bool:
        """Removes all of the journal's files; whether there was any besides the lock."""
        self.close()
        if not self.path.parent.is_dir():
            return False
        found = False
        with self._folder() as folder:
            for name in NAMES:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)
                    found |= name != LOCK
        return found

    def _folder(self) -> AbstractContextManager[int]:
        return state_folder.folder(self.path.parent, NAMES)

    def _lock_folder(self, folder: int) -> None:
        """Raises OSError while another process keeps its state here: two writers would damage each other's."""
        if self._lock is None:
            self._lock = state_folder.lock(folder, LOCK)
