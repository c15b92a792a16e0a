"""What another mode, or kube-proxy, has left in this kernel goes once everything wanted is in: a follower of commits.

Not before, so that no packet is without rules; and not later, since what is left is what was true in the past.
Connections that were translated keep their translation, which the kernel remembers apart from the rules.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from deltaplane.logs import event
from nodeagent.errors import AgentError
from nodeagent.program.dataplane import Commit, Failed

log = logging.getLogger(__name__)


class Leftovers:
    """Implements `nodeagent.followers.Follower`. `remove` takes them away and gives their names; it is called once.

    Where that fails it is told, and tried again with the next complete state.
    """

    def __init__(self, remove: Callable[[], tuple[str, ...]]) -> None:
        self._remove = remove
        self._complete = self._done = False

    def want(
        self, services: Sequence[ServiceForwarding], node: NodeForwarding | None = None, *, complete: bool = False
    ) -> None:
        self._complete |= complete

    def committed(self, done: Commit, seconds: float) -> None:
        if not self._complete or self._done:
            return
        self._complete = False
        try:
            removed = self._remove()
        except AgentError as error:
            event(log, logging.WARNING, "what another proxy left cannot be removed", reason=error)
            return
        self._done = True
        if removed:
            event(log, logging.INFO, "removed what another mode or kube-proxy left", removed="; ".join(removed))

    def refused(self) -> None:
        """Nothing goes before everything is in."""

    def failures(self) -> tuple[Failed, ...]:
        return ()
