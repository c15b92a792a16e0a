"""A fault in what goes along with a commit, or in what a Node object says, ends no stream and holds up no change.

Used by the agent for the Node, by `nodeagent.app` for the commit hooks. Services have `nodeagent.dataplane.resolver`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar, cast

from deltaplane.model import Kind, ObjectKey
from nodeagent.dataplane.outcome import Commit, Failed
from nodeagent.dataplane.resolver import MAX_TEXT

if TYPE_CHECKING:
    from nodeagent.dataplane.commit_hooks import CommitHook, Wanted

T = TypeVar("T")
Defect = Callable[[str, BaseException], None]  # name of the part, and what it raised


class LastGood:
    """Answers about a Node; where an answer cannot be had, the last one, and a failure of the Node object."""

    def __init__(self, node: str) -> None:
        self._key = ObjectKey(Kind.NODE, "", node)
        self._answers: dict[str, object] = {}
        self._failed: dict[str, Failed] = {}

    def ask(self, what: str, answer: Callable[[], T], first: T) -> T:
        """`answer()`; if that raises, what the same question was answered last, or `first`."""
        try:
            found = answer()
        except Exception as error:  # noqa: BLE001 - a fault of one object ends nothing else
            self._failed[what] = Failed(self._key, "INTERNAL", f"{what} cannot be told: {error!r}"[:MAX_TEXT])
            return cast("T", self._answers.get(what, first))
        self._failed.pop(what, None)
        self._answers[what] = found
        return found

    def failures(self) -> Iterator[Failed]:
        """One failure at most, since it is one object."""
        yield from list(self._failed.values())[:1]


class Guarded:
    """A commit hook whose faults are told to `defect`, under its name, and reach nobody else."""

    def __init__(self, name: str, hook: CommitHook, defect: Defect) -> None:
        self._name = name
        self._hook = hook
        self._defect = defect

    def want(self, wanted: Wanted) -> None:
        self._try(lambda: self._hook.want(wanted))

    def committed(self, done: Commit, seconds: float) -> None:
        self._try(lambda: self._hook.committed(done, seconds))

    def refused(self) -> None:
        self._try(self._hook.refused)

    def failures(self) -> tuple[Failed, ...]:
        return self._try(self._hook.failures) or ()

    def _try(self, call: Callable[[], T]) -> T | None:
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - counted and logged with its traceback
            self._defect(self._name, error)
            return None
