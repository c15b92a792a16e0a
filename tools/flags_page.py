"""docs/flags.md: every flag of both programs, from the parsers themselves. `make manual` writes it."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

import controlplane.settings
import nodeagent.config.flags

PAGE = Path(__file__).parents[1] / "docs" / "flags.md"
HEAD = """# All flags

Written by `make manual` from the programs' own parsers: do not edit. The [operating manual](operating.md) says what
effects Deltaplane's own flags have; [the agent's configuration](configuration.md) says which fields of a
KubeProxyConfiguration kube-proxy's flags stand for, and their defaults. The operator's command has
[a page of its own](command.md).
"""
PROGRAMS = {
    "`deltaplane controlplane`": controlplane.settings._parser,  # noqa: SLF001 - the page is made of the parser itself
    "`deltaplane agent`": nodeagent.config.flags._parser,  # noqa: SLF001 - likewise
}


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(line for title, parser in PROGRAMS.items() for line in _program(title, parser()))])


def flags(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Every flag that the program takes, but --help."""
    return [action for action in parser._actions if "--help" not in action.option_strings]  # noqa: SLF001 - no public way


def _program(title: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    yield from (f"## {title}", "", f"{parser.description}", "")
    known = set(map(id, flags(parser)))
    for group in parser._action_groups:  # noqa: SLF001 - no public way
        actions = [action for action in group._group_actions if id(action) in known]  # noqa: SLF001 - likewise
        if not actions:
            continue
        if group.title not in {"options", "positional arguments"}:
            yield from (f"### {str(group.title)[:1].upper()}{str(group.title)[1:]}", "")
        yield from ("| flag | default | meaning |", "|---|---|---|", *_rows(actions), "")


def _rows(actions: Iterable[argparse.Action]) -> Iterator[str]:
    for action in actions:
        yield f"| `{_cell(_usage(action))}` | {_default(action)} | {_cell(action.help or '')} |"


def _usage(action: argparse.Action) -> str:
    name = max(action.option_strings, key=len)
    if action.nargs == 0:
        return name
    if action.choices:
        return f"{name}={'|'.join(map(str, action.choices))}"
    value = action.metavar or action.dest.upper()
    return f"{name}[={value}]" if action.nargs == "?" else f"{name}={value}"


def _default(action: argparse.Action) -> str:
    value = action.default
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value in ("", argparse.SUPPRESS):
        return ""
    return f"`{_cell(str(value))}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
