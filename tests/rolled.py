"""What a restart of twenty Pods under load came to: for the laboratory's measurement and the cluster's."""

from __future__ import annotations

from collections import Counter

from msgspec import Struct

NAME, PODS = "rolling", 20


class Rolled(Struct):
    """One restart: `seconds` from the command to when the last old Pod is gone; what became of connections."""

    proxy: str
    hook: str
    seconds: float
    answered: int
    failures: Counter[str]
    drains: list[float] = []  # seconds that each call of /drain took

    def row(self) -> str:
        """Of the table in docs/operating.md."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.failures.items()))
        failed = f"{self.failures.total()}{f' ({kinds})' if kinds else ''}"
        total = self.answered + self.failures.total()
        drains = sorted(self.drains)
        took = f" ({drains[len(drains) // 2]:.2f} s, at most {drains[-1]:.2f} s)" if drains else ""
        return f"| {self.proxy} | {self.hook}{took} | {failed} | {total} | {self.seconds:.0f} s |"
