"""The revision that every node of the cluster has, found once for all who wait for the whole cluster."""

from __future__ import annotations

from math import inf

from msgspec import Struct

from controlplane.inspection.here import Here
from controlplane.session import Session


class Floor(Struct, frozen=True):
    """`rev`: every node with an open stream here has it. `failing`: those on which objects fail. `others`: nodes
    without an open stream here. `last`: one that has no more than `rev`. `names`: of those with one, sorted."""

    rev: float
    failing: tuple[Session, ...] = ()
    others: tuple[str, ...] = ()
    last: Session | None = None
    names: tuple[str, ...] = ()

    def named(self, more: tuple[str, ...]) -> tuple[str, ...]:
        """The names and these, sorted."""
        return tuple(sorted({*self.names, *more})) if more else self.names

    @property
    def empty(self) -> bool:
        """There are no nodes."""
        return self.last is None and not self.others

    def below(self, rev: int) -> bool:
        """Whether the last node still lacks this revision, so that nothing else need be looked at."""
        return self.last is not None and self.last.closed is None and self.last.applied_rev < rev


def floor(here: Here) -> Floor:
    """Looks at every node once."""
    epoch, store_has = here.cluster.log.epoch, here.cluster.has_node
    least, last = inf, None
    failing: list[Session] = []
    others: list[str] = []
    known: set[str] = set()
    names: list[str] = []
    for name, session in here.nodes.named():
        acked = session.acked
        known.add(name)
        if session.closed is not None:
            others += [name] if store_has(name) else []
            continue
        names.append(name)
        has = acked.applied_rev if session.epoch == epoch and acked.confirmed else 0
        if has < least:
            least, last = has, session
        if acked.failed or acked.more_failed:
            failing.append(session)
    others += [name for name in here.nodes_of_cluster() if name not in known]
    return Floor(least, tuple(failing), tuple(others), last, tuple(sorted(names)))
