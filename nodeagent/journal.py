"""What the agent keeps on disk: the last snapshot and the deltas since, as the messages that came.

Called by the agent: it appends what its session says (`Record`), and hands the replay to `Session.restore` at start, so
that a restarted agent resumes by revision. It knows no message's meaning. A delta is one write and no fsync: what a
crash of the machine loses is only the way from an older revision. A new beginning is written beside the old file,
synced and renamed over it. Nothing here ever fails the agent: a disk that is full or read-only is reported once, and
the agent goes on without.

The file is frames of length (u32), CRC-32 of the message (u32), both little-endian, and the message.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from struct import Struct
from zlib import crc32

from nodeagent.events import Record

NAME = "state.journal"
MAX_BYTES = 64 * 1024 * 1024
_MAGIC = b"deltaplane journal 1\n"
_FRAME = Struct("<II")


class Journal:
    """One file in a directory. `report` is given one line when keeping state stops working, and again when it works."""

    def __init__(
        self, directory: str | Path, *, report: Callable[[str], None] = lambda _: None, max_bytes: int = MAX_BYTES
    ) -> None:
        self.path = Path(directory) / NAME
        self.size = 0
        self.broken = ""  # why nothing is kept; empty while all is well
        self._report = report
        self._max_bytes = max_bytes
        self._limit = max_bytes
        self._file: int | None = None

    def replay(self) -> list[bytes]:
        """The messages kept, up to the first frame that is cut short or damaged; what follows it is dropped."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            self._fail(error)
            return []
        messages = list(_frames(content))
        self.size = len(_MAGIC) + sum(_FRAME.size + len(message) for message in messages)
        if messages:
            self._attempt(lambda: self._open(truncate=self.size))
        return messages

    def keep(self, record: Record) -> None:
        """Adds the messages, or begins anew with them. A delta without a beginning is not kept."""
        if record.whole:
            self._attempt(lambda: self._begin(record.messages))
        elif self._file is not None:
            self._attempt(lambda: self._append(record.messages))

    def full(self) -> bool:
        """Whether it is time for `keep` with a fresh beginning: the file has outgrown its limit."""
        return self._file is not None and self.size > self._limit

    def close(self) -> None:
        """Lets go of the file; it stays."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    # ------------------------------------------------------------ the file

    def _begin(self, messages: Iterable[bytes]) -> None:
        self.close()
        content = _MAGIC + b"".join(map(_frame, messages))
        fresh = self.path.with_suffix(".new")
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with fresh.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
        self.size = len(content)
        self._limit = max(self._max_bytes, 2 * self.size)  # a large state is not rewritten at every delta
        self._open(truncate=self.size)

    def _open(self, truncate: int) -> None:
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        os.ftruncate(self._file, truncate)

    def _append(self, messages: Iterable[bytes]) -> None:
        data = b"".join(map(_frame, messages))
        if self._file is not None:
            written = os.write(self._file, data)
            self.size += written
            if written != len(data):
                raise OSError(f"{written} of {len(data)} bytes written")

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError as error:
            self._fail(error)
        else:
            if self.broken:
                self.broken = ""
                self._report(f"{self.path}: state is kept again")

    def _fail(self, error: OSError) -> None:
        """Stops keeping until the next beginning: a file with a hole would be worse than an old one."""
        self.close()
        if not self.broken:
            self._report(f"{self.path}: cannot keep state ({error}); a restart will need a snapshot. Check the disk")
        self.broken = str(error)


def _frame(message: bytes) -> bytes:
    return _FRAME.pack(len(message), crc32(message)) + message


def _frames(content: bytes) -> Iterator[bytes]:
    if not content.startswith(_MAGIC):
        return
    start = len(_MAGIC)
    while start + _FRAME.size <= len(content):
        length, checksum = _FRAME.unpack_from(content, start)
        start += _FRAME.size
        message = content[start : start + length]
        if len(message) != length or crc32(message) != checksum:
            return
        yield message
        start += length
