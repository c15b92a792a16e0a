"""What is reported now, so that a problem is said once, and is taken back when it is mended or gone."""

from __future__ import annotations

from collections.abc import Container, Sequence

from controlplane.facts import Reporter

_SHOWN = 4


class Reports:
    """Between a source and the `Reporter`: a problem that is seen again (a relist) is not said again."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._open: dict[str, str] = {}

    def record(self, where: str, problems: Sequence[str]) -> None:
        """The problems of `where` now are these; none: it is mended or gone."""
        if not problems:
            if self._open.pop(where, None) is not None:
                self._reporter.valid(where)
            return
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        reason = "; ".join(problems[:_SHOWN]) + more
        if self._open.get(where) != reason:
            self._open[where] = reason
            self._reporter.invalid(where, reason)

    def retain(self, wheres: Container[str]) -> None:
        """Takes back what was reported of anything not among `wheres`."""
        for where in [where for where in self._open if where not in wheres]:
            self.record(where, ())
