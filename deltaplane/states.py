"""A state machine whose transitions are data: state -> {event: next state}. Used by both programs.

A table that programs move by can be tested whole, and drawn (`tools.state_diagrams`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Generic, TypeVar

S = TypeVar("S", bound=Enum)
E = TypeVar("E", bound=Enum)


class Machine(Generic[S, E]):
    """Stands in a state of the table, at the beginning in its first, and moves by the table alone."""

    def __init__(self, table: Mapping[S, Mapping[E, S]]) -> None:
        self._table = table
        self.state = next(iter(table))
        """Where it stands; only `move` changes it."""
        self._row = table[self.state]

    def allows(self, event: E) -> bool:
        """Whether the table lists this event in the state."""
        return event in self._row

    def move(self, event: E) -> S:
        """Goes on to the state that follows, and returns it. Raises `LookupError` for what the table does not list."""
        follows = self._row.get(event)
        if follows is None:
            raise LookupError(f"{event} in {self.state}: a defect, please report it")
        if follows is not self.state:
            self.state, self._row = follows, self._table[follows]
        return follows
