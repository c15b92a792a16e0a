"""The state diagrams in documents, drawn from the tables that the programs move by: `python -m tools.state_diagrams`.

A document says which table it shows, as the place of a mapping of state -> {event: next state}, both of them Enums:

    <!-- states controlplane.stream_phases:TRANSITIONS -->
    <!-- end of states -->

What is between the two lines is written anew. The first state of the table is where it begins; a state that nothing
leaves is an end. A member that has a text as its value is shown by it, any other by its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import TypeVar

State = TypeVar("State", bound=Enum)
Event = TypeVar("Event", bound=Enum)

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("proto/README.md", "DESIGN.md")
_BLOCK = re.compile(r"(<!-- states (?P<place>[\w.]+:\w+) -->\n).*?(<!-- end of states -->)", re.DOTALL)
_UNSHOWN = re.compile(r"[:;#\"\n]")  # Mermaid reads these in a label as its own


def draw(table: Mapping[State, Mapping[Event, State]]) -> str:
    """The Mermaid state diagram of the table. Raises ValueError for a table that is empty or has a hole, and for a text
    that Mermaid would misread."""
    if not table:
        raise ValueError("a table without states")
    lines = ["stateDiagram-v2", *(f'    state "{_words(state)}" as {state.name}' for state in table)]
    lines.append(f"    [*] --> {next(iter(table)).name}")
    for state, row in table.items():
        for follows, events in _by_target(row).items():
            if follows not in table:
                raise ValueError(f"{state.name} leads to {follows.name}, which has no row")
            lines.append(f"    {state.name} --> {follows.name}: {', '.join(map(_words, events))}")
        if not row:
            lines.append(f"    {state.name} --> [*]")
    return "\n".join(lines)


def _by_target(row: Mapping[Event, State]) -> dict[State, list[Event]]:
    """One arrow for all events that lead to the same state."""
    targets: dict[State, list[Event]] = {}
    for event, follows in row.items():
        targets.setdefault(follows, []).append(event)
    return targets


def _words(member: Enum) -> str:
    text = member.value if isinstance(member.value, str) else member.name.lower().replace("_", " ")
    if _UNSHOWN.search(text):
        raise ValueError(f"{member}: {text!r} has a character that Mermaid reads as its own")
    return text


def redrawn(text: str) -> str:
    """The document with each of its diagrams as its table is now. Raises LookupError for a table that is not there."""
    return _BLOCK.sub(lambda found: f"{found[1]}```mermaid\n{draw(_table(found['place']))}\n```\n{found[3]}", text)


def _table(place: str) -> Mapping[Enum, Mapping[Enum, Enum]]:
    module, _, name = place.partition(":")
    try:
        table: Mapping[Enum, Mapping[Enum, Enum]] = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise LookupError(f"a document shows the states of {place}: {error}") from error
    return table


def main() -> None:
    for name in DOCUMENTS:
        path = ROOT / name
        path.write_text(redrawn(path.read_text()))


if __name__ == "__main__":
    main()
