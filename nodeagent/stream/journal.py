"""What the agent keeps on disk: the last snapshot and the deltas since, as the messages that came.

Called by the agent: it appends what its session says (`Record`), and hands the replay to `Session.restore` at start, so
that a restarted agent resumes by revision. It knows no message's meaning. What a crash of the machine loses is only the
way from an older revision. Nothing here ever fails the agent: a disk that is full or read-only is reported once, the
agent goes on without, and tries a new file from time to time (`due`).

`frames` is what is in the file, `journal_file` how it is written, `state_folder` how it is opened.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from deltaplane import moments
from deltaplane.backoff import Backoff, Retries
from deltaplane.logs import event
from nodeagent.stream import frames
from nodeagent.stream.events import Record
from nodeagent.stream.frames import Owner, Replay
from nodeagent.stream.journal_file import NAME, JournalFile

log = logging.getLogger(__name__)

MAX_BYTES = 64 * 1024 * 1024
BACKOFF = Backoff(10.0, 300.0)  # seconds between two tries at a new beginning
FUTURE_SECONDS = 300.0  # a clock may be put right by so much; a later time says nothing
LOOK_SECONDS = 10.0  # between two looks whether the file is still in its place
STAMP_SECONDS = 300.0  # a state that is still true says so on disk this often, where nothing changes


def _log(text: str) -> None:
    event(log, logging.WARNING, "journal", text=text)


class Journal:
    """One file in a folder. `report` is given one line when keeping state stops working, and again when it works.

    `node` is whose state it is. `wall` gives Unix time in nanoseconds; `now` of the methods is monotonic seconds.
    """

    def __init__(
        self,
        directory: str | Path,
        node: str = "",
        *,
        report: Callable[[str], None] = _log,
        max_bytes: int = MAX_BYTES,
        wall: Callable[[], int] = moments.unix_nano,
    ) -> None:
        self.broken = ""  # why nothing is kept; empty while all is well
        self.failures = 0  # times that something could not be read or written
        self.written = 0  # Unix nanoseconds of the last write that is on disk; 0: none
        self.owner = Owner(node)
        self._file = JournalFile(Path(directory) / NAME)
        self._report = report
        self._max_bytes = self._limit = max_bytes
        self._wall = wall
        self._retries = Retries(BACKOFF)
        self._retry_at: float | None = None
        self._look_at = 0.0

    @property
    def path(self) -> Path:
        return self._file.path

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._file.size

    @property
    def kept(self) -> bool:
        """Whether what the agent holds is on disk."""
        return self._file.is_open

    def age(self) -> float | None:
        """Seconds since the last write; None: nothing is written, or its time lies in the future."""
        seconds = (self._wall() - self.written) / 1e9
        return max(0.0, seconds) if self.written and seconds >= -FUTURE_SECONDS else None

    # ------------------------------------------------------------ at start

    def replay(self) -> Replay:
        """What was kept, up to the first frame that is cut short or damaged. `resume` or `set_aside` comes next."""
        found = Replay()
        try:
            found = self._file.read()
        except FileNotFoundError:
            pass
        except frames.ForeignError as error:
            self.set_aside(str(error))
        except OSError as error:
            self._fail(error)
        self.written = found.written
        if found.lost:
            self.failures += 1
            what = "the newest changes may be missing, and a replica sends them again"
            self._report(f"{self.path}: its last {found.lost} bytes are cut short or damaged; {what}")
        return found

    def resume(self, found: Replay, number: int) -> None:
        """Goes on after the first `number` messages of the replay; what follows them is cut off."""
        whole = number == len(found.messages)
        size = found.size if whole else found.ends[number - 1]
        self.written = found.written if whole else found.times[number - 1]
        self.owner = Owner(self.owner.node, found.owner.cluster)
        self._limit = max(self._max_bytes, 2 * size)
        self._attempt(lambda: self._file.reopen(size))

    def set_aside(self, reason: str) -> None:
        """The file cannot be used: it is renamed to `state.bad`, for an operator to look at."""
        self._file.stop()
        self.written = 0
        try:
            bad = self._file.set_aside()
        except OSError as error:
            self._report(f"{self.path}: {reason}; it cannot be set aside ({error}), and is not used")
        else:
            self._report(f"{self.path}: {reason}; set aside as {bad}, a snapshot will be taken")

    def trying(self) -> int:
        """A replay begins: how many before it did not come to `tried`."""
        try:
            return self._file.count_try()
        except OSError:
            return 0  # where nothing can be written, nothing is counted

    def tried(self) -> None:
        """The replay has come to an end, whatever became of it."""
        with suppress(OSError):
            self._file.tried()

    # ------------------------------------------------------------ while running

    def keep(self, record: Record, cluster: str = "") -> None:
        """Appends the messages, or replaces the file by them. A delta without a snapshot before it is not kept.

        `cluster`: whose state it is, as far as is known.
        """
        if record.whole:
            self.owner = Owner(self.owner.node, cluster)
            self._attempt(lambda: self._begin(record.messages))
        elif self.kept:
            self._attempt(lambda: self._append(self._owned(cluster) + self._framed(record.messages)))

    def full(self, more: int = 0) -> bool:
        """Whether the file has outgrown its limit, or would with so many bytes `more`: `keep` a whole record then."""
        return self.kept and self.size + more > self._limit

    def due(self, now: float) -> bool:
        """Whether it is time to `keep` a whole record because writing failed; a later call is another try."""
        if not self.broken:
            return False
        before = self._retry_at
        if before is not None and now < before:
            return False
        self._retry_at = now + self._retries.failed()
        return before is not None

    def confirm(self, now: float) -> None:
        """What is kept is the cluster's state at this moment; call it periodically."""
        if self.kept and now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._attempt(self._look)

    def close(self) -> None:
        """Closes the file; it stays."""
        self._file.close()

    def remove(self) -> bool:
        """Removes all that is kept, for good; whether there was anything. Raises OSError."""
        return self._file.remove()

    # ------------------------------------------------------------ what is written

    def _begin(self, messages: Iterable[bytes]) -> None:
        self._file.begin(frames.MAGIC + frames.owner_frame(self.owner, self._wall()) + self._framed(messages))
        self.written = self._wall()
        self._limit = max(self._max_bytes, 2 * self.size)  # a large state is not rewritten at every delta

    def _append(self, data: bytes) -> None:
        self._file.append(data)
        self.written = self._wall()

    def _look(self) -> None:
        self._file.check()
        # After the clock was put back, what is on disk is from the future, and would not be believed after a reboot.
        if not 0 <= self._wall() - self.written < STAMP_SECONDS * 1e9:
            self._append(frames.frame(frames.STAMP, b"", self._wall()))

    def _framed(self, messages: Iterable[bytes]) -> bytes:
        now = self._wall()
        return b"".join(frames.frame(frames.MESSAGE, message, now) for message in messages)

    def _owned(self, cluster: str) -> bytes:
        """A frame that names the cluster, where it is another than before."""
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
                self.broken, self._retry_at = "", None
                self._retries.succeeded()
                self._report(f"{self.path}: state is kept again")

    def _fail(self, error: OSError) -> None:
        """Keeps nothing until the next whole record: a file that lacks a delta would be worse than an old one."""
        self._file.stop()
        self.failures += 1
        if not self.broken:
            advice = "" if error.errno == errno.EBUSY else ". Check the disk"
            self._report(f"{self.path}: cannot keep state ({error}); a restart will need a snapshot{advice}")
        self.broken = str(error)
