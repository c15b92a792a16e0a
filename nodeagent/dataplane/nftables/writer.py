"""What differs, written in transactions of bounded size: pending changes through delivery.

`dataplane` calls it. The order of things over several transactions is `pending`'s; a table that is to be installed
goes first, family by family, so that one that the kernel refuses holds nothing else back.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from sys import maxsize

from nodeagent.dataplane.nftables.changes import Change
from nodeagent.dataplane.nftables.delivery import Delivered, Delivery
from nodeagent.dataplane.nftables.pending import Pending
from nodeagent.dataplane.outcome import Drifted, Sent
from nodeagent.dataplane.refusals import NoneTaken
from nodeagent.errors import KernelUnavailable

MAIN = 4  # the family without which nothing works; the other may be left out
PER_BATCH = 4_000  # elements in one transaction of a cold load: some 15 ms, so that the first Services work early


class Writer:
    """`leave_out` is told of a family that the kernel will not have, and why."""

    def __init__(self, pending: Pending, delivery: Delivery, leave_out: Callable[[int, str], None]) -> None:
        self._pending, self._delivery, self._leave_out = pending, delivery, leave_out

    def write(self, sent: Sent, known: frozenset[bytes] | None) -> None:
        """Everything that differs; `known` as for `Delivery.deliver`. Raises Drifted, KernelUnavailable."""
        for family in self._delivery.fresh:
            self._install(family, sent, known)
        for group in _groups(self._pending.changes(), PER_BATCH):
            self._send(group, sent, known)
        self._delivery.remove_unused(self._pending.released, self._pending.uses, sent)

    def _install(self, family: int, sent: Sent, known: frozenset[bytes] | None) -> None:
        """One family's table with its first changes; a table that is replaced with all of them, so without a gap."""
        replaces = family in self._delivery.foreign
        group = next(_groups(self._pending.changes(family), maxsize if replaces else PER_BATCH))
        try:
            self._send(group, sent, known, family)
        except NoneTaken as error:
            if replaces and error.code == errno.ENOENT:  # another program took away what is to be replaced
                if known is not None:
                    raise Drifted from error
                raise KernelUnavailable("nftables: our table went while it was replaced; it is retried") from error
            if family == MAIN:
                raise KernelUnavailable(f"nftables: the kernel refused our table ({error}); it is retried") from error
            self._leave_out(family, str(error))

    def _send(
        self, group: list[Change], sent: Sent, known: frozenset[bytes] | None, install: int | None = None
    ) -> None:
        into = Delivered(sent)
        try:
            self._delivery.deliver(group, into, known, install)
        finally:
            self._pending.settle(into.done, into.refused)


def _groups(changes: Iterable[Change], size: int) -> Iterator[list[Change]]:
    """Groups of whole changes of about `size` elements; at least one group, which may be empty."""
    group: list[Change] = []
    count = 0
    for change in changes:
        if group and count >= size:
            yield group
            group, count = [], 0
        group.append(change)
        count += len(change.deletes) + len(change.adds)
    yield group
