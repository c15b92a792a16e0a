"""What `dataplane` asks of a way to bring traffic to the listeners; `nft`, `iptables` and `direct` answer it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from nodeagent.dataplane.userspace.settings import Settings
from nodeagent.dataplane.userspace.tracker import Difference, Placement


class Drifted(Exception):
    """What stands is not what was believed: somebody else changed it."""


class Written:
    """What a write did; `refused` are the differences that could not be made to stand, and why."""

    def __init__(self) -> None:
        self.done: list[Difference] = []
        self.refused: list[tuple[Difference, str]] = []
        self.messages = 0  # netlink messages, or lines for iptables-restore
        self.elements = 0  # or rules
        self.size = 0  # bytes


class Redirects(Protocol):
    """One way. Calls come from one thread."""

    kind: str
    families: frozenset[int]

    @property
    def foreign(self) -> bool:
        """Whether what `read` found is another version's: the next write replaces it, so that one must be complete."""

    def read(self) -> Mapping[bytes, Placement]:
        """What stands, by slot. Raises DataplaneUnavailable."""

    def place(self, family: int) -> bytes:
        """The address, packed, that listeners of a family are to be bound to. Raises KernelUnavailable."""

    def write(self, differences: Sequence[Difference], *, again: bool = False) -> Written:
        """Makes these stand, each whole or not at all.

        Raises KernelUnavailable, and Drifted where others interfered: then `read` and write once more, with `again`.
        """

    def configure(self, settings: Settings) -> None:
        """Takes other settings, to be followed by `read`. Raises ValueError for a CIDR that is none."""

    def fileno(self) -> int:
        """Readable when somebody else changed something; -1 where that cannot be heard."""

    def drifted(self) -> bool:
        """Whether what stands was changed by somebody else since the last `read`."""

    def close(self) -> None:
        """What was written stays."""
