"""How the demo prints: headings, facts, checks, bars and tables. Plain text, colours on a terminal only."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

_COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "cyan": "36"}
_BAR = 28


@dataclass
class Screen:
    """Writes to standard output and remembers what was not as it should be."""

    colour: bool = field(default_factory=lambda: sys.stdout.isatty() and "NO_COLOR" not in os.environ)
    wrong: list[str] = field(default_factory=list)
    _step: int = 0

    def paint(self, text: str, colour: str) -> str:
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if self.colour else text

    def line(self, text: str = "") -> None:
        print(text, flush=True)

    def title(self, text: str) -> None:
        self.line()
        self.line(self.paint(text, "bold"))

    def step(self, text: str) -> None:
        """A numbered heading."""
        self._step += 1
        width = min(shutil.get_terminal_size().columns, 100)
        self.line()
        self.line(self.paint(f"── {self._step}. {text} ".ljust(width, "─"), "bold"))

    def say(self, text: str) -> None:
        self.line(f"   {text}")

    def aside(self, text: str) -> None:
        self.line(self.paint(f"   {text}", "dim"))

    def check(self, holds: object, text: str) -> None:
        """One claim, with a tick where it holds; where not, the demo goes on and ends with exit code 1."""
        if not holds:
            self.wrong.append(text)
        mark = self.paint("✓", "green") if holds else self.paint("✗", "red")
        self.line(f"   {mark} {text}")

    def bars(self, counts: Mapping[str, int], where: Mapping[str, str]) -> None:
        """How many requests each name got, with a remark on where that is."""
        total = sum(counts.values()) or 1
        widest = max((len(name) for name in counts), default=0)
        for name, count in sorted(counts.items()):
            bar = self.paint("█" * round(_BAR * count / max(counts.values())), "cyan")
            pad = " " * (_BAR - round(_BAR * count / max(counts.values())))
            remark = self.paint(where.get(name, ""), "dim")
            self.line(f"     {name:<{widest}}  {bar}{pad} {count:>5}  {count / total:6.1%}  {remark}")

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Columns as wide as they need, the first to the left, the others to the right."""
        body = [list(row) for row in rows]
        widths = [max(len(row[column]) for row in [list(head), *body]) for column in range(len(head))]
        for number, row in enumerate([list(head), *body]):
            cells = [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
            text = "     " + "   ".join(cells)
            self.line(self.paint(text, "dim") if number == 0 else text)
