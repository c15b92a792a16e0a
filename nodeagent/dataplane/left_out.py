"""Families that a backend goes on without, and what is said of the Services that have addresses there. Pure.

IPv4 is never left out: a machine that cannot have it takes another mode.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator

from deltaplane.forwarding import ServiceForwarding
from deltaplane.model import ObjectKey
from nodeagent.dataplane.outcome import Failed
from nodeagent.dataplane.tracker import NODE

log = logging.getLogger(__name__)


class LeftOut:
    """One failure for all such Services, so that each commit and Ack stays as small as its change."""

    def __init__(self, mode: str) -> None:
        self._mode, self._reason = mode, ""
        self._services: set[ObjectKey] = set()  # those with IPv6 addresses or node ports

    @property
    def reason(self) -> str:
        """Why IPv6 is left out; empty: it is not."""
        return self._reason

    def leave(self, reason: str, *, refused: bool = True) -> None:
        """From now on, for this reason; `refused`: not for want of IPv6 altogether, which is no fault."""
        self._reason = reason
        if refused:
            log.error("%s: IPv6 Services are left out until a restart: %s", self._mode, reason)
        else:
            log.warning("%s: %s, the family is left out", self._mode, reason)

    def note(self, service: ServiceForwarding) -> None:
        """What a Service means now."""
        if any(entry.frontend.family == 6 for entry in service.entries):
            self._services.add(service.key)
        elif self._services:
            self._services.discard(service.key)

    def keep(self, services: Collection[ObjectKey]) -> None:
        """There are no others."""
        self._services.intersection_update(services)

    def failures(self) -> Iterator[Failed]:
        if self._reason and self._services:
            text = f"IPv6 addresses and node ports of Services are not served until a restart: {self._reason}"
            yield Failed(NODE, "UNSUPPORTED", text)
