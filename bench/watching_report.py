"""The table of (f). Called by `__main__`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.fanout import median
from bench.report import floor, quantile
from bench.watching import PLAIN, RATE, STREAMS, Found, Turn, Watched

COLUMNS = (
    "watched by", "CPU ms per change", "times plain, median", "quartiles", "Deltas/s", "Acks/s", "answers/s",
    "seconds of each", "spans/s",
)  # fmt: skip


def watching(found: Found) -> str:
    """One row for each setting."""
    rows = [f"| {' | '.join(COLUMNS)} |", f"|---|{'--:|' * (len(COLUMNS) - 1)}"]
    rows.append(_row(PLAIN.title, found.plain, "", ""))
    rows += [_row(each.setting.title, each.turns, *_ratios(each)) for each in found.settings]
    turns = len(found.settings[0].turns)
    said = [
        f"{STREAMS:,} streams, {RATE:.0f} changes/s; Deltas and Acks are those of each stream.",
        f"Medians of {turns} turns of {found.seconds:.0f} s, each beside the plain ones before and after it;",
        f"others took {found.others:.0%} of the machine. Calls that were refused or broke: {_failed(found)}.",
    ]
    return "\n".join([*rows, "", *said, "", *_floors(found)])


def _row(title: str, turns: Sequence[Turn], ratio: str, spread: str) -> str:
    def middle(of: Callable[[Turn], float]) -> float:
        return median([of(turn) for turn in turns])

    answers = middle(lambda turn: turn.answers)
    cells = [title, f"{middle(lambda turn: turn.change) * 1e3:.2f}", ratio, spread]
    cells += [f"{middle(lambda turn: turn.deltas):.1f}", f"{middle(lambda turn: turn.acks):.2f}"]
    cells += [f"{answers:.0f}", f"{middle(lambda turn: turn.waited):.2f}"] if answers else ["", ""]
    spans = middle(lambda turn: turn.spans)
    return f"| {' | '.join(cells)} | {f'{spans:.0f}' if spans else ''} |"


def _ratios(of: Watched) -> tuple[str, str]:
    ratios = of.ratios
    return f"{median(ratios):.3f}", f"{quantile(ratios, 0.25):.3f} to {quantile(ratios, 0.75):.3f}"


def _failed(found: Found) -> int:
    return sum(turn.failed for each in found.settings for turn in each.turns)


def _floors(found: Found) -> list[str]:
    asked = [each for each in found.settings if each.setting.most is not None]
    return [
        floor(
            each.setting.title,
            f"{median(each.ratios) - 1:+.1%} of the server's CPU",
            f"at most {(each.setting.most or 0) - 1:.0%} more",
            met=median(each.ratios) <= (each.setting.most or 0),
        )
        for each in asked
    ]
