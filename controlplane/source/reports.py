"""The open problems of a source: each is reported once, and withdrawn when it is solved or its object is gone."""

from __future__ import annotations

from collections.abc import Container, Sequence

from controlplane.facts import Reporter
from deltaplane.once import Once

_SHOWN = 4


class Reports:
    """Passes problems to the `Reporter`, but not again after a relist."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._open = Once[str]()

    def record(self, where: str, problems: Sequence[str]) -> None:
        """Sets the current problems of `where`; none: they are solved."""
        if not problems:
            if self._open.clear(where):
                self._reporter.valid(where)
            return
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        reason = "; ".join(problems[:_SHOWN]) + more
        if self._open.note(where, reason):
            self._reporter.invalid(where, reason)

    def retain(self, wheres: Container[str]) -> None:
        """Withdraws the problems of all places that are not in `wheres`."""
        for where in self._open.retain(wheres):
            self._reporter.valid(where)
