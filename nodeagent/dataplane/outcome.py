"""What came of writing to a kernel, and what a round of writing is. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from msgspec import Struct

from deltaplane.model import ObjectKey


class Drifted(Exception):
    """What the kernel holds is not what we left there: it is to be read again."""


class Round(NamedTuple):
    """One round of `Driver.write`."""

    complete: bool  # all Services there are were wanted at some time since the start
    again: bool = False  # the kernel was just read
    last: bool = False  # no other reading follows: what the kernel contradicts now is refused


@dataclass
class Sent:
    """Counts what the kernel took, while it is sent: see `Commit`."""

    messages: int = 0
    elements: int = 0
    size: int = 0  # bytes


class Failed(Struct, frozen=True):
    """An object that is not in the kernel as it should be, and why."""

    key: ObjectKey
    code: str  # a name of deltaplane.v1.ErrorCode without its prefix, such as "KERNEL_REJECTED"
    text: str


def refused_object(owner: ObjectKey, what: str, why: str) -> Failed:
    """The failure of an object of which the kernel refuses a part."""
    return Failed(owner, "KERNEL_REJECTED", f"{owner}: the kernel refused {what}: {why}")


class Commit(Struct, frozen=True):
    """What one `apply` did to the kernel.

    `messages` and `size` count what was sent on the netlink socket (transaction brackets included), `elements` the set
    and map elements written or deleted. All are 0 where nothing differed.
    """

    messages: int = 0
    elements: int = 0
    size: int = 0  # bytes
    failed: tuple[Failed, ...] = ()
