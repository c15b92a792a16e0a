"""Which nodes a question is about: the Node objects of the cluster, and agents that are connected without one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from controlplane.inspection.here import Here
from deltaplane.v1 import inspection_pb2 as pb


class Selection:
    """`alone`: only nodes whose stream this replica has, or had last. `known`: nodes whose agents other replicas know.

    Raises ValueError for a quorum that is none.
    """

    def __init__(self, here: Here, chosen: pb.NodeSelection, percent: int = 0, *, alone: bool = False) -> None:
        if percent > 100:
            raise ValueError(f"quorum_percent: {percent} is not 0 to 100")
        self.known: set[str] = set()
        self._here, self._alone = here, alone
        self._percent = percent or 100
        self._named, self._zones = frozenset(chosen.names), frozenset(chosen.zones)
        self._except = frozenset(chosen.except_names)
        self._agents_only = chosen.ignore_without_agent

    @property
    def whole(self) -> bool:
        """Every node of the cluster is meant."""
        chosen = self._named or self._zones or self._except or self._agents_only
        return not (chosen or self._alone) and self._percent == 100

    def names(self) -> Sequence[str]:
        """The nodes of this moment. Looks at all there are, unless the whole cluster is meant."""
        if not self.whole:
            return [name for name in self._candidates() if self._chooses(name)]
        here = self._here
        return (*here.names(), *self._elsewhere()) if self.known else here.names()

    def _elsewhere(self) -> list[str]:
        return sorted(self.known.difference(self._here.names()))

    def may_lack(self, number: int) -> int:
        """How many of so many nodes may lack something for the quorum to have it."""
        return number - -(-number * self._percent // 100)

    def _candidates(self) -> Iterator[str]:
        if self._named and not self._alone:
            return iter(dict.fromkeys(sorted(self._named)))
        here = self._here
        if self._alone:
            return (name for name, each in here.nodes.named() if each.closed is None or here.node(name))
        return iter((*here.names(), *self._elsewhere()))

    def _chooses(self, name: str) -> bool:
        if name in self._except or (self._named and name not in self._named):
            return False
        if self._agents_only and self._here.session(name) is None and name not in self.known:
            return False
        if not self._zones:
            return True
        node = self._here.node(name)
        return node is not None and node.zone in self._zones
