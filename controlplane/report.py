"""Logs which objects a source cannot use, once each, and when they are usable again (facts.Reporter)."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from deltaplane.logs import event
from deltaplane.once import Once

log = logging.getLogger(__name__)


class Report:
    """`problems` has the current reason for each place."""

    def __init__(self) -> None:
        self.problems = Once[str]()

    def invalid(self, where: str, reason: str) -> None:
        """Logs a new or changed problem; a repeated one is silent."""
        if self.problems.note(where, reason):
            event(log, logging.WARNING, "cannot use object", where=where, reason=reason)

    def valid(self, where: str) -> None:
        if self.problems.clear(where):
            event(log, logging.INFO, "object is usable again", where=where)

    def reason(self, where: str) -> str:
        """Why the object at this place cannot be used; empty: it can, or nothing is known of it."""
        return self.problems.text(where)

    def known(self) -> Iterator[tuple[str, str]]:
        """The place and the reason of each current problem, oldest first."""
        for where in self.problems:
            yield where, self.problems.text(where)
