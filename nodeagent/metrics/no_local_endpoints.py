"""Counts the Service ports that a Local policy leaves without an endpoint on this node, as their Services change.

Pure; called by `nodeagent.metrics.registry`. A port counts if it has endpoints, but none that the policy allows on this
node: its connections are dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from deltaplane.forwarding import FrontendKind, ServiceForwarding, Verdict
from deltaplane.model import ObjectKey

POLICIES = ("internal", "external")
Counts = Counter[tuple[str, int]]  # (policy, family) -> ports


class Unserved:
    """Holds the counts of each Service that has any."""

    def __init__(self) -> None:
        self._of: dict[ObjectKey, Counts] = {}
        self._total: Counts = Counter()

    def update(self, forwardings: Iterable[ServiceForwarding]) -> dict[tuple[str, int], int]:
        """Takes in what these Services mean now; gives the totals that are different."""
        changed: set[tuple[str, int]] = set()
        for forwarding in forwardings:
            before = self._of.pop(forwarding.key, _NONE)
            now = _counts(forwarding)
            if now:
                self._of[forwarding.key] = now
            if now != before:
                changed |= {*before, *now}
                self._total.subtract(before)
                self._total.update(now)
        return {place: self._total[place] for place in changed}


_NONE: Counts = Counter()


def _counts(forwarding: ServiceForwarding) -> Counts:
    """A port with several external frontends is one port."""
    ports: set[tuple[str, int, int, str]] = set()
    for entry in forwarding.entries:
        frontend = entry.frontend
        place = (frontend.family, frontend.protocol, entry.port_name)
        if frontend.kind == FrontendKind.CLUSTER_IP:
            if entry.verdict == Verdict.DROP:
                ports.add(("internal", *place))
        elif Verdict.DROP in (entry.verdict, entry.external_verdict):
            ports.add(("external", *place))
    return Counter((policy, family) for policy, family, _, _ in ports)
