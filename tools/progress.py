"""What takes minutes says what it does and how long it has done it: a moving line on a terminal, plain lines elsewhere.

The same for Python as `progress.sh` is for scripts. Written to standard error, so that results stay by themselves.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_BAR = 20
_PLAIN, _MOVING = 30.0, 1.0  # seconds between two lines


class Progress:
    """What is done now, as which of how many, since when. `at` may be called from any thread."""

    def __init__(self, who: str, total: int, out: TextIO, every: float) -> None:
        self._who, self._total, self._out = who, total, out
        self._number, self._what = 0, ""
        self._began = time.monotonic()
        self._moving = out.isatty()
        self._every = every or (_MOVING if self._moving else _PLAIN)
        self._ended = threading.Event()

    def at(self, what: str, *, small: bool = False) -> None:
        """The next of them begins; a small one moves the line of a terminal and gets no line of its own elsewhere."""
        self._number += 1
        self._what = what
        if self._moving or not small:
            self._say()

    def watch(self) -> None:
        """Says where it is, again and again, until `end`."""
        while not self._ended.wait(self._every):
            if self._what:
                self._say()

    def end(self) -> None:
        self._ended.set()

    def text(self) -> str:
        """One line: who, a bar and n of m where there is an m, what, minutes and seconds."""
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        place = f"{self._number} of {self._total}: " if self._total else ""
        return f"{self._who}: {self._bar()}{place}{self._what}: {minutes}:{seconds:02d}"

    def _bar(self) -> str:
        if not (self._moving and self._total):
            return ""
        done = "#" * (_BAR * (self._number - 1) // self._total)
        return f"[{done:<{_BAR}}] "

    def _say(self) -> None:
        self._out.write(f"\r\x1b[K{self.text()}" if self._moving else f"{self.text()}\n")
        self._out.flush()

    def clear(self) -> None:
        """Takes the moving line away, for what is printed next."""
        if self._moving:
            self._out.write("\r\x1b[K")
            self._out.flush()


@contextmanager
def shown(who: str, total: int = 0, out: TextIO | None = None, every: float = 0.0) -> Iterator[Progress]:
    """Meanwhile the line comes every second on a terminal and every half minute elsewhere, or `every` so many."""
    progress = Progress(who, total, out or sys.stderr, every)
    watching = threading.Thread(target=progress.watch, name="progress", daemon=True)
    watching.start()
    try:
        yield progress
    finally:
        progress.end()
        watching.join()
        progress.clear()
