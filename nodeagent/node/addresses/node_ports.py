"""Where node ports answer, over time: what is done while the Node object is unknown, and what is said of it.

Owned by the agent, which asks when the machine's addresses or its Node change and when `deadline` has passed.
Synchronous; takes time as an argument.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from deltaplane.forwarding import NodeForwarding
from deltaplane.logs import event
from deltaplane.once import Once
from nodeagent.node.addresses.selection import Policy, select

log = logging.getLogger(__name__)

PATIENCE = 30.0  # seconds for the Node to have an address, as kube-proxy waits at its start (L2)


class NodePorts:
    """One policy on one node."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._everywhere = False  # some family's node ports answer on every address of this machine (B4)
        self._known = False  # the Node had an address once
        self._deadline: float | None = None
        self._said = Once[str]()

    @property
    def follows_machine(self) -> bool:
        """Whether a change of the machine's own addresses matters, as things stand after the last `choose`."""
        return self._everywhere or not self._policy.primary

    @property
    def deadline(self) -> float | None:
        """When `choose` wants to be asked again though nothing has changed; None: it need not."""
        return self._deadline

    def choose(self, local: Iterable[bytes], node: Sequence[bytes], now: float) -> NodeForwarding | None:
        """As `selection.select`; None: leave the kernel as it is. `now` is monotonic, in seconds.

        Under "primary" a Node without addresses is waited for, so that what an earlier run opened stays open meanwhile,
        and then node ports are closed. One that had addresses and lost them, or was deleted, keeps its node ports.
        """
        if self._policy.primary and not self._ready(node, now):
            return None
        selection = select(self._policy, local, node)
        self._say(selection.notes)
        self._everywhere = bool(selection.forwarding.match_all_families)
        return selection.forwarding

    def _ready(self, node: Sequence[bytes], now: float) -> bool:
        if node:
            self._known, self._deadline = True, None
            return True
        if self._known:
            self._say(("the Node object has lost its addresses: node ports stay where they are",))
            return False
        if self._deadline is None:
            self._deadline = now + PATIENCE
        return now >= self._deadline

    def _say(self, notes: tuple[str, ...]) -> None:
        """Each once, until it is over."""
        self._said.retain(notes)
        for note in notes:
            if self._said.note(note):
                event(log, logging.WARNING, "node port addresses", note=note)
