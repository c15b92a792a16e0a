"""What the agent keeps on disk: the last snapshot and the deltas since, as the messages that came.

Called by the agent: it appends what its session says (`Record`), and hands the replay to `Session.restore` at start, so
that a restarted agent resumes by revision. It knows no message's meaning. A delta is one write and no fsync: what a
crash of the machine loses is only the way from an older revision. A new beginning is written beside the old file,
synced and renamed over it. Nothing here ever fails the agent: a disk that is full or read-only is reported once, the
agent goes on without, and from time to time (`due`) a new beginning is tried.

`nodeagent.stream.frames` is what is in the file, `nodeagent.stream.state_folder` how it is opened.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from nodeagent.stream import frames, state_folder
from nodeagent.stream.events import Record
from nodeagent.stream.frames import Owner, Replay

NAME, FRESH, BAD, TRYING, LOCK = "state.journal", "state.new", "state.bad", "state.trying", "state.lock"
NAMES = frozenset((NAME, FRESH, BAD, TRYING, LOCK, state_folder.RELEASE))
MAX_BYTES = 64 * 1024 * 1024
RETRY_FIRST, RETRY_LAST = 10.0, 300.0  # seconds between two tries at a new beginning; doubles
FUTURE_SECONDS = 300.0  # a clock may be put right by so much; a later time says nothing
LOOK_SECONDS = 10.0  # between two looks whether the file is still in its place
STAMP_SECONDS = 300.0  # a state that is still true says so on disk this often, where nothing changes


class Journal:
    """One file in a folder. `report` is given one line when keeping state stops working, and again when it works.

    `node` is whose state it is. `wall` gives Unix time in nanoseconds; `now` of the methods is monotonic seconds.
    """

    def __init__(
        self,
        directory: str | Path,
        node: str = "",
        *,
        report: Callable[[str], None] = lambda _: None,
        max_bytes: int = MAX_BYTES,
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        self.path = Path(directory) / NAME
        self.size = 0
        self.broken = ""  # why nothing is kept; empty while all is well
        self.failures = 0  # times that something could not be read or written
        self.written = 0  # Unix nanoseconds of the last write that is on disk; 0: none
        self.owner = Owner(node)
        self._report = report
        self._max_bytes = max_bytes
        self._limit = max_bytes
        self._wall = wall
        self._file: int | None = None
        self._lock: int | None = None
        self._retry_at: float | None = None
        self._pause = RETRY_FIRST
        self._look_at = 0.0

    @property
    def kept(self) -> bool:
        """Whether what the agent holds is on disk."""
        return self._file is not None

    def age(self) -> float | None:
        """Seconds since the last write; None: nothing is written, or its time lies in the future."""
        seconds = (self._wall() - self.written) / 1e9
        return max(0.0, seconds) if self.written and seconds >= -FUTURE_SECONDS else None

    # ------------------------------------------------------------ at start

    def replay(self) -> Replay:
        """What was kept, up to the first frame that is cut short or damaged. `resume` or `set_aside` comes next."""
        found = Replay()
        try:
            found = self._read()
        except FileNotFoundError:
            pass
        except frames.ForeignError as error:
            self.set_aside(str(error))
        except OSError as error:
            self._fail(error)
        self.written = found.written
        return found

    def resume(self, found: Replay, number: int) -> None:
        """Goes on behind the first `number` messages of the replay; what follows them is cut off."""
        whole = number == len(found.messages)
        self.size = found.size if whole else found.ends[number - 1]
        self.written = found.written if whole else found.times[number - 1]
        self.owner = Owner(self.owner.node, found.owner.cluster)
        self._limit = max(self._max_bytes, 2 * self.size)
        self._attempt(self._reopen)

    def set_aside(self, reason: str) -> None:
        """The file cannot be used: it is `state.bad` from now on, for whoever wants to know why."""
        self._stop()
        self.written = 0
        bad = self.path.with_name(BAD)
        try:
            with self._folder() as folder:
                self._alone(folder)
                os.replace(NAME, BAD, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as error:
            self._report(f"{self.path}: {reason}; it cannot be set aside ({error}), and is not used")
        else:
            self._report(f"{self.path}: {reason}; set aside as {bad}, a snapshot will be taken")

    def trying(self) -> int:
        """A replay begins: how many before it did not come to `tried`. It is a file's size, so that any end counts."""
        try:
            with self._folder() as folder:
                return state_folder.count(folder, TRYING)
        except OSError:
            return 0  # where nothing can be written, nothing is counted

    def tried(self) -> None:
        """The replay has come to an end, whatever became of it."""
        with suppress(OSError), self._folder() as folder:
            os.unlink(TRYING, dir_fd=folder)

    # ------------------------------------------------------------ while running

    def keep(self, record: Record, cluster: str = "") -> None:
        """Adds the messages, or begins anew with them. A delta without a beginning is not kept.

        `cluster`: whose state it is, as far as is known.
        """
        if record.whole:
            self.owner = Owner(self.owner.node, cluster)
            self._attempt(lambda: self._begin(record.messages))
        elif self._file is not None:
            self._attempt(lambda: self._append(self._owned(cluster) + self._framed(record.messages)))

    def full(self) -> bool:
        """Whether it is time for `keep` with a fresh beginning: the file has outgrown its limit."""
        return self._file is not None and self.size > self._limit

    def due(self, now: float) -> bool:
        """Whether it is time for `keep` with a fresh beginning, since writing failed; a later call is another try."""
        if not self.broken:
            return False
        before = self._retry_at
        if before is not None and now < before:
            return False
        self._retry_at = now + self._pause
        self._pause = min(RETRY_LAST, 2 * self._pause)
        return before is not None

    def confirm(self, now: float) -> None:
        """What is kept is true at this moment; to be called now and then."""
        if self._file is None or now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        self._attempt(self._look)

    def close(self) -> None:
        """Lets go of the file; it stays."""
        self._stop()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _stop(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def remove(self) -> bool:
        """Takes away all that is kept, for good; whether there was anything. Raises OSError."""
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

    # ------------------------------------------------------------ the file

    def _folder(self) -> AbstractContextManager[int]:
        return state_folder.folder(self.path.parent, NAMES)

    def _read(self) -> Replay:
        with self._folder() as folder:
            descriptor = state_folder.open_file(folder, NAME)
        with os.fdopen(descriptor, "rb") as file:
            return frames.read(file)

    def _reopen(self) -> None:
        with self._folder() as folder:
            self._alone(folder)
            self._file = state_folder.open_file(folder, NAME, append=True)
        os.ftruncate(self._file, self.size)

    def _begin(self, messages: Iterable[bytes]) -> None:
        self._stop()
        content = frames.MAGIC + frames.owner_frame(self.owner, self._wall()) + self._framed(messages)
        with self._folder() as folder:
            self._alone(folder)
            try:
                descriptor = self._fresh(folder, content)
            except OSError:
                with suppress(OSError):
                    os.unlink(FRESH, dir_fd=folder)
                raise
        self._file, self.size, self.written = descriptor, len(content), self._wall()
        self._limit = max(self._max_bytes, 2 * self.size)  # a large state is not rewritten at every delta

    def _fresh(self, folder: int, content: bytes) -> int:
        descriptor = state_folder.create(folder, FRESH)
        try:
            state_folder.write(descriptor, content)
            os.fsync(descriptor)
            os.replace(FRESH, NAME, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _alone(self, folder: int) -> None:
        """Raises OSError while another process keeps its state here: two writers would spoil each other's."""
        if self._lock is None:
            self._lock = state_folder.lock(folder, LOCK)

    def _append(self, data: bytes) -> None:
        if self._file is not None:
            state_folder.write(self._file, data)
            self.size += len(data)
            self.written = self._wall()

    def _look(self) -> None:
        if self._file is not None and os.fstat(self._file).st_nlink == 0:
            raise FileNotFoundError("the file was removed")
        if self._wall() - self.written >= STAMP_SECONDS * 1e9:
            self._append(frames.frame(frames.STAMP, b"", self._wall()))

    def _framed(self, messages: Iterable[bytes]) -> bytes:
        now = self._wall()
        return b"".join(frames.frame(frames.MESSAGE, message, now) for message in messages)

    def _owned(self, cluster: str) -> bytes:
        """A frame that says whose the state is, where that is news."""
        if cluster == self.owner.cluster:
            return b""
        self.owner = Owner(self.owner.node, cluster)
        return frames.owner_frame(self.owner, self._wall())

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError as error:
            self._fail(error)
        else:
            if self.broken:
                self.broken, self._pause, self._retry_at = "", RETRY_FIRST, None
                self._report(f"{self.path}: state is kept again")

    def _fail(self, error: OSError) -> None:
        """Stops keeping until the next beginning: a file with a hole would be worse than an old one."""
        self._stop()
        self.failures += 1
        if not self.broken:
            advice = "" if error.errno == errno.EBUSY else ". Check the disk"
            self._report(f"{self.path}: cannot keep state ({error}); a restart will need a snapshot{advice}")
        self.broken = str(error)
