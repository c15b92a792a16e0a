"""Tables and sentences as text, with rich: at most 100 columns, colour only where a terminal is. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from io import StringIO

from msgspec import Struct
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

WIDTH = 100  # columns, at most
UNBOUNDED = 10_000  # for -o wide
STYLES = {"good": "green", "warn": "yellow", "bad": "bold red", "faint": "dim", "strong": "bold"}


class Cell(Struct, frozen=True):
    """Text of a table. `tone`: a key of STYLES, or nothing."""

    text: str
    tone: str = ""


class Column(Struct, frozen=True):
    """`wide`: with -o wide only. `folds`: may be cut into lines when the table is too wide; others give way last."""

    title: str
    wide: bool = False
    right: bool = False
    folds: bool = False


class Table(Struct, frozen=True):
    """Rows have a cell for each column. `title`: a line before it; `empty`: what is said instead of no row."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell | str]]
    title: str = ""
    empty: str = ""


class Sentence(Struct, frozen=True):
    """A line of its own, folded between words."""

    text: str
    tone: str = ""


Block = Table | Sentence


def columns(*titles: str) -> list[Column]:
    """From `NAME`, `REV>` (right), `REASON*` (folds), `PEER+` (wide only), in any combination."""
    return [Column(each.rstrip(">*+"), wide="+" in each, right=">" in each, folds="*" in each) for each in titles]


def drawn(blocks: Iterable[Block], *, wide: bool = False) -> list[RenderableType]:
    """As rich draws it."""
    return [_sentence(each) if isinstance(each, Sentence) else _table(each, wide) for each in blocks]


def text(blocks: Iterable[Block], *, wide: bool = False, width: int = WIDTH) -> str:
    """Without colour; no line is longer than `width` columns, or has spaces at its end."""
    out = StringIO()
    console = Console(
        file=out, width=UNBOUNDED if wide else width, color_system=None, force_terminal=False, legacy_windows=False
    )
    for each in drawn(blocks, wide=wide):
        console.print(each, soft_wrap=False)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def _sentence(sentence: Sentence) -> RenderableType:
    return Text(sentence.text, style=STYLES.get(sentence.tone, ""))


def _table(table: Table, wide: bool) -> RenderableType:
    if not table.rows:
        return Text(table.empty or "none", style=STYLES["faint"])
    shown = [place for place, column in enumerate(table.columns) if wide or not column.wide]
    drawn_table = RichTable(
        title=table.title or None, title_justify="left", title_style="bold", header_style="bold", box=None,
        show_header=any(column.title for column in table.columns), show_edge=False, pad_edge=False,
        padding=(0, 2, 0, 0), collapse_padding=True,
    )  # fmt: skip
    for place in shown:
        column = table.columns[place]
        drawn_table.add_column(
            column.title, justify="right" if column.right else "left", overflow="fold",
            no_wrap=wide or not column.folds,
        )  # fmt: skip
    for row in table.rows:
        drawn_table.add_row(*(_cell(row[place]) for place in shown))
    return Padding(drawn_table, (0, 0, 0, 0), expand=False)


def _cell(cell: Cell | str) -> Text:
    if isinstance(cell, str):
        return Text(cell)
    return Text(cell.text, style=STYLES.get(cell.tone, ""))
