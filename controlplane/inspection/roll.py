"""The names of all nodes, put together when a node has come or gone and not for each who asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deltaplane.model import Kind

if TYPE_CHECKING:
    from controlplane.cluster import Cluster
    from controlplane.nodes import Nodes


class Roll:
    """Of one replica. `built`: how often."""

    def __init__(self) -> None:
        self.built = 0
        self._names: tuple[str, ...] = ()
        self._open: tuple[str, ...] | None = None  # of which it was built, and at which number of moves
        self._moves = -1

    def names(self, cluster: Cluster, nodes: Nodes) -> tuple[str, ...]:
        """The Node objects, and the agents that have a stream without one; sorted."""
        store, opened = cluster.store, nodes.open_names
        if opened is not self._open or store.moves[Kind.NODE] != self._moves:
            self._open, self._moves = opened, store.moves[Kind.NODE]
            self._names = tuple(sorted({*opened, *(key.name for key in store.keys(Kind.NODE))}))
            self.built += 1
        return self._names
