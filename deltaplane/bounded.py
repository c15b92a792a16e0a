"""Files and YAML from outside, with limits that are checked before anything large, deep or endless is built.

Both programs read their YAML through this. The check runs over the parser's events, which need no stack, so that
what is composed and constructed afterwards (recursively, and in C) is known to be small. Imports YAML when it is used.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any, TypeVar

from deltaplane import redact

FILE_BYTES = 32 * 1024 * 1024
DEPTH = 64  # collections within each other; the API's own objects have less than 20
NODES = 2_000_000  # keys and values of one document, with what aliases stand for
ALIASED = 100_000  # of these, by aliases
DIGITS = 64  # characters of a number

T = TypeVar("T")


class TooMuch(ValueError):
    """A limit is exceeded; the text names it, and the line."""


def read(path: str | Path, limit: int = FILE_BYTES) -> str:
    """The text of a regular file. Never waits for a writer; raises OSError, `TooMuch`, and UnicodeDecodeError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise TooMuch("it is not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            content: bytes | None = file.read(limit + 1)
    finally:
        os.close(descriptor)
    if content is None:  # files of /proc may have nothing to say yet
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    if len(content) > limit:
        raise TooMuch(f"it is larger than the limit of {limit} bytes")
    return content.decode("utf-8")


def load(text: str, loader: Any) -> Any:
    """The first document of the text, by a (safe) loader class. Raises ValueError with one line that says why not."""
    import yaml  # noqa: PLC0415 - 1.4 MB that an agent without a file does not need

    try:
        check(text, loader)
        return yaml.load(text, Loader=_bounded(loader))  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        raise ValueError(_position(error)) from error
    except (ValueError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]) from error


def check(text: str, loader: Any) -> None:
    """Raises `TooMuch` where a limit is exceeded, and yaml.YAMLError for a text that is none."""
    import yaml  # noqa: PLC0415 - as above

    counts = _Counts()
    for event in yaml.parse(text, Loader=loader):
        try:
            counts.take(event, yaml.events)
        except TooMuch as error:
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise TooMuch(f"line {line} of the document: {error}") from None


class _Counts:
    """Nodes per open collection, and per anchor with all that is below it."""

    def __init__(self) -> None:
        self._open: list[tuple[str | None, int]] = []
        self._nodes = 0  # so far
        self._aliased = 0
        self._anchors: dict[str, int] = {}  # name: nodes
        self._unfinished: set[str] = set()

    def take(self, event: Any, kinds: Any) -> None:
        if isinstance(event, kinds.AliasEvent):
            self._alias(event.anchor)
        elif isinstance(event, kinds.ScalarEvent):
            self._count(1)
            if event.anchor:
                self._anchors[event.anchor] = 1
        elif isinstance(event, kinds.CollectionStartEvent):
            self._enter(event.anchor)
        elif isinstance(event, kinds.CollectionEndEvent):
            self._leave()

    def _enter(self, anchor: str | None) -> None:
        if len(self._open) >= DEPTH:
            raise TooMuch(f"nested deeper than the limit of {DEPTH}")
        self._open.append((anchor, self._nodes))
        self._count(1)
        if anchor:
            self._unfinished.add(anchor)

    def _leave(self) -> None:
        anchor, before = self._open.pop()
        if anchor:
            self._unfinished.discard(anchor)
            self._anchors[anchor] = self._nodes - before

    def _alias(self, name: str) -> None:
        if name in self._unfinished:
            raise TooMuch(f"alias *{name[:64]} refers to what it stands in")
        nodes = self._anchors.get(name, 1)
        self._aliased += nodes
        if self._aliased > ALIASED:
            raise TooMuch(f"aliases stand for more nodes than the limit of {ALIASED}")
        self._count(nodes)

    def _count(self, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > NODES:
            raise TooMuch(f"more keys and values than the limit of {NODES}")


def _bounded(loader: Any) -> Any:
    """The loader, refusing numbers that are longer than any field's: Python takes long for these, or refuses itself."""

    class Bounded(loader):  # type: ignore[misc]
        def construct_scalar(self, node: Any) -> Any:
            if node.tag.endswith((":int", ":float")) and len(node.value) > DIGITS:
                where = f"line {node.start_mark.line + 1} of the document"
                raise TooMuch(f"{where}: a number of {len(node.value)} characters; the limit is {DIGITS}")
            return super().construct_scalar(node)

    return Bounded


def _position(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    problem = redact.yaml(str(getattr(error, "problem", "")))
    return f"line {mark.line + 1} of the document, column {mark.column + 1}: {problem}"
