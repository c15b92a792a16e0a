"""What `dataplane` asks of a way to bring traffic to the listeners; `nft` and `iptables` answer it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from nodeagent.dataplane.outcome import Sent
from nodeagent.dataplane.userspace.settings import Settings
from nodeagent.dataplane.userspace.tracker import Difference, Placement


class Written:
    """What a write did so far; `refused` are the differences that could not be made to stand, and why."""

    def __init__(self, sent: Sent) -> None:
        self.done: list[Difference] = []
        self.refused: list[tuple[Difference, str]] = []
        self.sent = sent  # messages: netlink's, or lines for iptables-restore; elements: or rules


class Redirects(Protocol):
    """One way. Calls come from one thread."""

    kind: str
    families: frozenset[int]

    @property
    def foreign(self) -> bool:
        """Whether what `read` found is another version's: the next write replaces it, so that one must be complete."""

    def read(self) -> Mapping[bytes, Placement]:
        """What stands, by slot. Raises DataplaneUnavailable."""

    def shows(self, member: bytes) -> bool:
        """Whether anything in the kernel stands for a set's member."""

    def standing(self, slots: Iterable[bytes]) -> Mapping[bytes, Placement]:
        """What stands of these slots, and nothing else; what is remembered stays so.

        Raises OSError and KernelUnavailable, ValueError where our tables are not as they are written.
        """

    def place(self, family: int) -> bytes:
        """The address, packed, that listeners of a family are to be bound to. Raises KernelUnavailable."""

    def write(self, differences: Sequence[Difference], into: Written, *, again: bool = False) -> None:
        """Makes these stand, each whole or not at all.

        Raises KernelUnavailable, and Drifted where others interfered: then `read` and write once more. `again`: what
        the kernel contradicts is refused.
        """

    def configure(self, settings: Settings) -> None:
        """Takes other settings, to be followed by `read`. Raises ValueError for a CIDR that is none."""

    def fileno(self) -> int:
        """Readable when another program changed something; -1 where that cannot be heard."""

    def drifted(self) -> bool:
        """Whether what stands was changed by another program since the last `read`."""

    def close(self) -> None:
        """What was written stays."""
