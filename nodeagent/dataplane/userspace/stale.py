"""Tracked UDP flows to redirects that are gone: the kernel would go on sending them where nobody, or another, listens.

The agent's own cleaner knows endpoints; a listener is none. Redirects that a start finds and no owner wants any more go
as all others do, and their flows with them, so this mode has no need to be `Remembering`. Called by `dataplane` after
each write, and costs a walk of the kernel's table only where a UDP redirect went.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from deltaplane.forwarding import Target
from deltaplane.model import Protocol
from nodeagent.conntrack.query import Flow, Query, Table
from nodeagent.dataplane.frontend_key import is_frontend, is_node_port
from nodeagent.dataplane.userspace.tracker import Difference
from nodeagent.errors import KernelUnavailable

log = logging.getLogger(__name__)


class Gone(NamedTuple):
    """A redirect that is no more; `address` is empty for a node port."""

    family: int
    address: bytes
    port: int
    listener: Target

    def led(self, flow: Flow) -> bool:
        return (
            flow.source == self.listener
            and flow.place.port == self.port
            and (not self.address or flow.place.address == self.address)
        )


class StaleFlows:
    """What is still to be deleted, which is tried again where the kernel did not answer. `table` None: nothing is."""

    def __init__(self, table: Table | None) -> None:
        self._table = table
        self._gone: dict[Gone, None] = {}

    def delete(self, done: Iterable[Difference]) -> None:
        """Deletes the flows of redirects that these took away. Never raises."""
        self._gone.update((gone, None) for difference in done for gone in _gone(difference))
        if self._table is None or not self._gone:
            return
        try:
            for family in {gone.family for gone in self._gone}:
                stale = [
                    flow for flow in self._table.flows(Query(family)) if any(gone.led(flow) for gone in self._gone)
                ]
                self._table.delete(stale)
        except KernelUnavailable as error:
            log.warning("userspace: UDP flows to listeners that are gone remain for now: %s", error)
        else:
            self._gone.clear()


def _gone(difference: Difference) -> Iterator[Gone]:
    slot = difference.slot
    if not is_frontend(slot) or slot[-8] != Protocol.UDP:
        return
    address = b"" if is_node_port(slot) else slot[1:-8]
    for name, value in difference.before:
        if isinstance(value, bytes) and (name, value) not in difference.after:
            listener = Target(value[:-4], int.from_bytes(value[-4:-2], "big"))
            yield Gone(slot[0], address, int.from_bytes(slot[-4:-2], "big"), listener)
