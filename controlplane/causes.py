"""What is worked out of the causes of a commit: once for all nodes, since those of a round share the tuple (`log`).

Nodes acknowledge the same rounds in several portions, by turns, so a few tuples are remembered. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from deltaplane.v1 import delta_pb2 as pb

T = TypeVar("T")
Causes = tuple[pb.Cause, ...]
RECENT = 32


class OfCauses(Generic[T]):
    """`make`: what is worked out."""

    def __init__(self, make: Callable[[Causes], T]) -> None:
        self._make = make
        self._made: dict[int, tuple[Causes, T]] = {}  # by id, which the tuple keeps while it is here

    def __call__(self, causes: Causes) -> T:
        """Of these."""
        found = self._made.get(id(causes))
        return self._note(causes) if found is None else found[1]

    def _note(self, causes: Causes) -> T:
        made = self._make(causes)
        while len(self._made) >= RECENT:
            del self._made[next(iter(self._made))]
        self._made[id(causes)] = causes, made
        return made
