"""Says which objects a source cannot use, once each, and when they are mended (facts.Reporter)."""

from __future__ import annotations

import logging

from deltaplane.logs import event

log = logging.getLogger(__name__)


class Report:
    """`problems` is what is wrong now: where -> reason."""

    def __init__(self) -> None:
        self.problems: dict[str, str] = {}

    def invalid(self, where: str, reason: str) -> None:
        """Logs a new or changed problem; a repeated one is silent."""
        if self.problems.get(where) != reason:
            self.problems[where] = reason
            event(log, logging.WARNING, "cannot use object", where=where, reason=reason)

    def valid(self, where: str) -> None:
        if self.problems.pop(where, None) is not None:
            event(log, logging.INFO, "object is usable again", where=where)
