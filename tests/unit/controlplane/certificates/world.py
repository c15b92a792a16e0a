"""Replicas, objects, clocks and agents without any of them: what `plan` decides, carried out in memory.

A CA is a name with a validity. Versions of objects count, as at the API server: a write of an older one is refused.
"""

from __future__ import annotations

from itertools import count

from msgspec import Struct, structs

from controlplane.certificates import plan
from controlplane.certificates.plan import Decision, Memory
from controlplane.certificates.values import Authority, Bundle, Leaf, Seen, Times

TIMES = Times()
DAY = 86400.0
STEP = DAY / 4


def ca(name: str, begins: float, ends: float) -> Authority:
    return Authority(f"certificate of {name}", f"key of {name}", name, begins, ends)


class Looked(Struct):
    """What a replica has read and decided, with the versions that it read."""

    decision: Decision
    secret: int
    bundle: int


class Replica:
    """`skew`: by how many seconds its clock is ahead."""

    def __init__(self, world: World, skew: float) -> None:
        self.world, self.skew = world, skew
        self.partitioned = False
        self.crash()

    def crash(self) -> None:
        """It starts anew and knows nothing."""
        self.memory, self.leaf, self.seen = Memory(), None, Seen()
        self.looked: Looked | None = None
        self._missed: float | None = None

    leaf: Leaf | None

    @property
    def now(self) -> float:
        return self.world.now + self.skew

    def look(self) -> None:
        """Reads, serves and decides."""
        if not self.partitioned:
            self.seen = self.world.seen()
            known = plan.known(self.seen, self.memory)
            self._missed = None if known else self.now if self._missed is None else self._missed
            missed = 0.0 if self._missed is None else self.now - self._missed
            self.memory = Memory(known, self.memory.signer, missed)
            decision = plan.decide(self.seen, self.memory, TIMES, self.now)
            self.looked = Looked(decision, self.world.secret_version, self.world.bundle_version)
        self._serve()

    def _serve(self) -> None:
        signer = plan.signer(self.seen, self.memory, TIMES, self.now)
        if signer is not None and plan.leaf_due(self.leaf, signer, self.now):
            self.leaf = Leaf("", "", signer.name, *plan.leaf_times(signer, TIMES, self.now))
            self.memory = structs.replace(self.memory, signer=signer)

    def write(self) -> None:
        """Writes one object, if it is still as it was read."""
        looked, self.looked = self.looked, None
        if looked is None or self.partitioned:
            return
        if looked.decision.write_secret:
            self.world.write_secret(looked, self.now)
        elif looked.decision.write_bundle:
            self.world.write_bundle(looked)

    def turn(self) -> None:
        for _ in range(4):
            self.look()
            if self.looked is None or not (self.looked.decision.write_secret or self.looked.decision.write_bundle):
                return
            self.write()


class World:
    """`history`: the names in the bundle from a time on."""

    def __init__(self, skews: tuple[float, ...] = (0.0,)) -> None:
        self.now = 1_800_000_000.0
        self.authorities: tuple[Authority, ...] = ()
        self.secret_whole = self.bundle_whole = self.renew = False
        self.bundle = Bundle()
        self.secret_version = self.bundle_version = 0
        self.secret_writes = 0
        self.history: list[tuple[float, frozenset[str]]] = [(0.0, frozenset())]
        self.replicas = [Replica(self, skew) for skew in skews]
        self._names = count(1)

    def seen(self) -> Seen:
        return Seen(self.authorities, self.secret_whole, self.renew, self.bundle, self.bundle_whole)

    def write_secret(self, looked: Looked, now: float) -> None:
        if looked.secret != self.secret_version:
            return
        made = (ca(f"ca-{next(self._names)}", now - TIMES.skew, now + TIMES.authority),) if looked.decision.make else ()
        self.edit_secret((*looked.decision.authorities, *made), whole=True)
        self.renew = False
        self.secret_writes += 1

    def edit_secret(self, authorities: tuple[Authority, ...], *, whole: bool) -> None:
        self.authorities, self.secret_whole = authorities, whole
        self.secret_version += 1

    def write_bundle(self, looked: Looked) -> None:
        if looked.bundle == self.bundle_version:
            self.edit_bundle(looked.decision.bundle, whole=True)

    def edit_bundle(self, bundle: Bundle, *, whole: bool) -> None:
        self.bundle, self.bundle_whole = bundle, whole
        self.bundle_version += 1
        self.history.append((self.now, frozenset(root.name for root in bundle.roots)))

    def believed(self, lag: float) -> frozenset[str]:
        """What an agent believes whose copy of the bundle is that old."""
        return next(names for since, names in reversed(self.history) if since <= self.now - lag)

    def run(self, steps: int, seconds: float = STEP) -> None:
        for _ in range(steps):
            self.now += seconds
            for replica in self.replicas:
                replica.turn()
