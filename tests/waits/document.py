"""The results of a run as a table, and their place in docs/operating.md."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path

from tests.waits.run import EVERYWHERE, NAMED, Found

PAGE = Path(__file__).parents[2] / "docs" / "operating.md"
BEGIN, END = "<!-- waits -->", "<!-- end of waits -->"


def table(found: Found, seed: int, seconds: float) -> str:
    """Markdown."""
    day = datetime.now(UTC)
    where = f"Linux {platform.release().partition('-')[0]}, {os.cpu_count()} processors"
    told = (
        f"{found.right:,} of {found.changes:,} right, seed {seed}, {seconds / 60:.0f} minutes, {day:%-d %B %Y}, {where}"
    )
    late = f"the latest answer came {max(0.0, found.latest):.1f} s after its time-out"
    rows = "".join(
        f"| {fault} | {found.verdicts[fault, EVERYWHERE]} | {found.verdicts[fault, NAMED]} |\n"
        for fault in sorted({fault for fault, _ in found.verdicts})
    )
    again = f"put again, because an agent without a fault was late: {found.again} questions"
    return f"{told}; {late}; {again}.\n\n| fault | said to be everywhere | nodes named |\n|---|---|---|\n{rows}"


def write(found: Found, seed: int, seconds: float) -> None:
    """Puts the table between its marks."""
    text = PAGE.read_text("utf-8")
    inner = f"{BEGIN}\n\n{table(found, seed, seconds)}\n{END}"
    PAGE.write_text(re.sub(f"{BEGIN}.*?{END}", lambda _: inner, text, flags=re.DOTALL), "utf-8")
