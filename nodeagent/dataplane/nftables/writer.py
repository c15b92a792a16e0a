"""What differs, written in transactions of bounded size: the ledger's changes through delivery.

`dataplane` calls it. The order of things over several transactions is the ledger's; a table that is to be installed
goes first, family by family, so that one that the kernel refuses holds nothing else back.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from sys import maxsize

from nodeagent.dataplane.nftables.changes import Change
from nodeagent.dataplane.nftables.delivery import Delivery, Drifted, Uninstallable
from nodeagent.dataplane.nftables.kernel import Unanswered
from nodeagent.dataplane.nftables.pending import Ledger
from nodeagent.errors import KernelUnavailable

MAIN = 4  # the family without which nothing works; the other may be left out
PER_BATCH = 8_000  # elements in one transaction of a cold load: some 30 ms, so that the first Services work early


class Writer:
    """`leave_out` is told of a family that the kernel will not have, and why."""

    def __init__(self, ledger: Ledger, delivery: Delivery, leave_out: Callable[[int, str], None]) -> None:
        self._ledger, self._delivery, self._leave_out = ledger, delivery, leave_out
        self._unsure = False  # the last transaction may have been done or not

    def write(self, known: frozenset[bytes] | None) -> None:
        """Everything that differs; `known` as for `Delivery.deliver`, None right after the tables were read.

        Raises Drifted, at once where the last transaction had no answer; KernelUnavailable.
        """
        if self._unsure and known is not None:
            raise Drifted
        self._unsure = False
        try:
            self._write(known)
        except Unanswered:
            self._unsure = True
            raise

    def _write(self, known: frozenset[bytes] | None) -> None:
        for family in self._delivery.fresh:
            self._install(family, known)
        for group in _groups(self._ledger.changes(), PER_BATCH):
            self._send(group, known)
        self._delivery.sweep(self._ledger.released, self._ledger.uses)

    def _install(self, family: int, known: frozenset[bytes] | None) -> None:
        """One family's table with its first changes; a table that is replaced with all of them, so without a gap."""
        delivery = self._delivery
        group = next(_groups(self._ledger.changes(family), maxsize if family in delivery.foreign else PER_BATCH))
        delivery.installing = family
        try:
            self._send(group, known)
        except Uninstallable as error:
            if family in delivery.foreign and error.code == errno.ENOENT:  # somebody took away what is to be replaced
                if known is not None:
                    raise Drifted from error
                raise KernelUnavailable("nftables: our table went while it was replaced; it is retried") from error
            if family == MAIN:
                raise KernelUnavailable(f"nftables: the kernel refused our table ({error}); it is retried") from error
            self._leave_out(family, str(error))
        finally:
            delivery.installing = None

    def _send(self, group: list[Change], known: frozenset[bytes] | None) -> None:
        delivery = self._delivery
        delivery.done, delivery.refused = [], []
        try:
            delivery.deliver(group, known)
        finally:
            self._ledger.settle(delivery.done, delivery.refused)


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
