"""Warnings about a cluster that cannot work as it is set up, each logged once, and once when it is over.

Owned by `node_info`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from difflib import get_close_matches

from deltaplane.logs import event
from deltaplane.once import Once
from nodeagent.node.surroundings import Surroundings

log = logging.getLogger(__name__)

SHOWN = 3  # names or networks in one line


class Cautions:
    """Of the node that calls itself `name`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._said = Once[str]()

    def consider(self, nodes: Collection[str], surroundings: Surroundings) -> None:
        """Call whenever Nodes or ServiceCIDRs have changed; a cluster without any Node is waited for."""
        self._name_known(nodes)
        self._ranges_apart(surroundings)

    def _name_known(self, nodes: Collection[str]) -> None:
        if self._name in nodes:
            if self._said.clear("name"):
                event(log, logging.INFO, f"the Node {self._name} is known now")
        elif nodes and self._said.note("name"):
            what = f"no Node is named {self._name}: Local policies, zones and node ports do not work here"
            advice = "give this node's name in the API with --hostname-override"
            event(log, logging.WARNING, what, there_are=", ".join(like(self._name, nodes)), advice=advice)

    def _ranges_apart(self, surroundings: Surroundings) -> None:
        inside = surroundings.inside
        if not inside:
            if self._said.clear("ranges"):
                event(log, logging.INFO, "ServiceCIDRs cover no Node's and no pods' addresses any more")
        elif self._said.note("ranges"):
            event(
                log, logging.WARNING, "a ServiceCIDR covers addresses of Nodes, pods or servers, which are let through",
                number=len(inside), such_as=", ".join(surroundings.examples(SHOWN)),
                advice="give Services a range that nothing else is in",
            )  # fmt: skip


def like(name: str, nodes: Collection[str]) -> list[str]:
    """Names that may be meant, the likeliest first: with the same first label, or spelled alike; else any."""
    label = name.partition(".")[0].lower()
    same = sorted(node for node in nodes if node.partition(".")[0].lower() == label)
    near = [*same, *get_close_matches(name, nodes, SHOWN)]
    return list(dict.fromkeys(near or sorted(nodes)))[:SHOWN]
