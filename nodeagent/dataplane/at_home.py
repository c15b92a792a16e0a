"""Commit hooks stay on the event loop's thread, wherever the agent runs, and hold the loop for a moment only.

They touch what belongs to the loop. A call from another thread waits until the loop has done it, so that nothing of the
agent happens meanwhile and every hook hears everything in order. Wired by `nodeagent.app`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from nodeagent.dataplane.commit_hooks import CommitHook, Wanted
from nodeagent.dataplane.outcome import Commit, Failed

PORTION = 250  # Services that hooks take in between two looks of the loop; some 10 ms


Home = Callable[[Callable[[], Any]], Any]
"""Runs a call on the loop's thread, and returns or raises what it does (nodeagent.stream.beside.Beside.at_home)."""


class AtHome:
    """Implements `nodeagent.dataplane.commit_hooks.CommitHook` for several, called one after the other."""

    def __init__(self, home: Home, hooks: Sequence[CommitHook]) -> None:
        self._home = home
        self._hooks = hooks

    def want(self, wanted: Wanted) -> None:
        for portion in portions(wanted):
            self._home(partial(self._want, portion))

    def _want(self, wanted: Wanted) -> None:
        for hook in self._hooks:
            hook.want(wanted)

    def committed(self, done: Commit, seconds: float) -> None:
        for hook in self._hooks:
            self._home(partial(hook.committed, done, seconds))

    def refused(self) -> None:
        for hook in self._hooks:
            self._home(hook.refused)

    def failures(self) -> tuple[Failed, ...]:
        found: tuple[Failed, ...] = self._home(self._failures)
        return found

    def _failures(self) -> tuple[Failed, ...]:
        return tuple(item for hook in self._hooks for item in hook.failures())


def portions(wanted: Wanted) -> Iterator[Wanted]:
    """The same in portions of so many Services; the last one has the rest, and names all Services there are."""
    services, _, complete, names = wanted
    if complete and names is None and len(services) > PORTION:
        names = frozenset(service.key for service in services)
    last = max(0, len(services) - 1) // PORTION * PORTION
    for start in range(0, last, PORTION):
        yield Wanted(services[start : start + PORTION])
    yield wanted._replace(services=services[last:], names=names)
