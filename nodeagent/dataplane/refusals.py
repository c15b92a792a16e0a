"""Which of these does the kernel refuse? The search where a group is taken whole or not at all. Pure.

A refused group changes nothing. Those at fault are set aside and the rest goes out again; where the fault cannot be
placed, the group is halved. Either way the number of attempts is bounded by the number of items.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from nodeagent.dataplane.outcome import Drifted
from nodeagent.linux.netlink import wire
from nodeagent.linux.nft.transaction import DRIFT, WHOLE, Batch

SINGLE_OUTS = 8  # times that items at fault are set aside before a group is halved instead
T = TypeVar("T")


class NoneTaken(Exception):
    """The kernel refuses the transaction whatever changes are in it; `code` is its errno."""

    def __init__(self, code: int) -> None:
        super().__init__(os.strerror(code))
        self.code = code


class Blame(NamedTuple):
    """Why a change is refused: the kernel's errno, and what was refused of it, as nft would say it."""

    errno: int
    command: str = ""

    def __str__(self) -> str:
        return f"{os.strerror(self.errno)}{f' (nft {self.command})' if self.command else ''}"


def send_apart(items: Sequence[T], attempt: Callable[[Sequence[T]], Mapping[int, object] | None]) -> None:
    """Sends all items but those at fault. What `attempt` raises ends the search.

    `attempt` sends a group: None: it was taken; otherwise the places that are surely at fault, with the reason, none
    where the group must be halved. It keeps what became of the items.
    """
    rest = items
    for _ in range(SINGLE_OUTS):
        guilty = attempt(rest)
        if guilty is None:
            return
        if not guilty:
            break
        rest = [item for place, item in enumerate(rest) if place not in guilty]
    for half in halves(rest):
        send_apart(half, attempt)


def halves(items: Sequence[T]) -> list[Sequence[T]]:
    """Both, in order; an empty one is left out."""
    middle = (len(items) + 1) // 2
    return [half for half in (items[:middle], items[middle:]) if half]


def at_fault(batch: Batch, replies: Iterable[wire.Reply], expected: Sequence[bool]) -> dict[int, Blame]:
    """The changes of a refused transaction, by place, that are surely at fault, as for `send_apart`.

    `expected`, by place: that the kernel contradicts this change is known. Raises Drifted where it contradicts another,
    NoneTaken where no change is at fault.
    """
    guilty: dict[int, Blame] = {}
    for answer in replies:
        blamed = batch.blamed(answer)
        if answer.errno in WHOLE or (not blamed and (answer.sequence != batch.first or not expected)):
            raise NoneTaken(answer.errno)
        if answer.errno in DRIFT and not all(expected[place] for place in blamed):
            raise Drifted
        if len(blamed) == 1 or len(expected) == 1:
            guilty.setdefault(blamed[0] if blamed else 0, Blame(answer.errno, batch.command(answer)))
    return guilty
