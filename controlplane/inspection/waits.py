"""Everybody who waits until kernels have something. An Ack costs nothing but a look whether anybody waits.

For who waits for the whole cluster, all nodes are looked at once for all of them, when the last one has moved. Each
other waiter looks at the nodes that it has not seen to have it, and no further than to the first that lacks it: while
that one does, nothing else need be looked at. So all its looks together are about one per node, however many Acks come.
Before it answers, it looks at all nodes that there are then: at those that joined meanwhile, and those that lost what
they had.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from math import inf

from controlplane.inspection.floor import Floor, floor
from controlplane.inspection.here import Here
from controlplane.inspection.lacking import has
from controlplane.inspection.rooms import Rooms, TooManyWaiters
from controlplane.inspection.selection import Selection
from controlplane.inspection.targets import Target
from deltaplane.shares import Allowance
from deltaplane.v1 import inspection_pb2 as pb

TICK, FEW, LONGEST_TICK = 0.05, 50, 0.5  # seconds from news until so few waiters look; more look in proportion later
HASTES, HASTES_AT_ONCE = 2.0, 10.0  # revisions a second that agents are asked to acknowledge at once, and after a pause
LOOKS = 100_000.0  # a second, at nodes, of all who tell another replica what its nodes have; about 10 % of a core
NEWS_LOOKS = 10_000.0  # likewise of all who tell a caller how far it is
HASTED_ACKS = 100.0  # a second, of all agents: a twentieth of what they acknowledge where there are many


class Stopping(Exception):
    """This replica stops: another one is to be asked."""


class Waiter:
    """One call. `elsewhere`: nodes that other replicas say have it, and since when each has its stream there, in
    monotonic seconds of this process. `moved` is set whenever it has looked."""

    def __init__(self, here: Here, target: Target, selection: Selection) -> None:
        self.target, self.selection = target, selection
        self.rev: int | None = None  # of this replica; None: it has not seen it
        self.elsewhere: dict[str, float] = {}
        self._overlap: set[str] = set()  # nodes of `elsewhere` whose streams were shown as open here, too
        self.moved = asyncio.Event()
        self.reached = asyncio.Event()  # set once this replica has seen it
        self.returned = asyncio.Event()  # set when what this replica had seen is not so any more
        self.done = asyncio.Event()  # set once enough nodes had it at one time
        self.looks = 0  # at nodes
        self.everybody: tuple[str, ...] | None = None  # all nodes, once they have it; None: look at each
        self._apart: tuple[str, ...] = ()  # those of `everybody` that have no open stream here
        self._here, self._epoch = here, ""
        self._todo: list[str] = []
        self._lack: list[str] = []
        self._may_lack = self._chosen = 0

    def look(self, floors: Floors | None = None) -> bool:
        """Whether enough nodes have it now. `floors`: what one look at all nodes found for all waiters."""
        before = self.rev, self._epoch
        self.rev, self._epoch = self.target.reached(), self._here.epoch
        self.moved.set()
        if self.rev is None:
            self._return(before[0])
            return False
        self.reached.set()
        if floors is not None and self.selection.whole and not any(map(self._outlived, self._overlap)):
            return self._under(floors)
        fresh = before != (self.rev, self._epoch) or not self._chosen
        if fresh:
            self._begin()
        if not self._enough():
            return False
        if not fresh:
            self._begin()
        return fresh or self._enough()

    def _return(self, rev: int | None) -> None:
        """What others said before does not count where this replica had seen it, at `rev`, and does not any more."""
        if rev is not None:
            self.elsewhere.clear()
            self.reached.clear()
            self.returned.set()

    def decide(self) -> None:
        """Looks at what came since the last time, before an answer."""
        if not self.done.is_set() and self.look():
            self.done.set()

    def other_says(self, name: str, since: float) -> None:
        """Another replica says that the node has it; the stream there is open since then, in monotonic seconds."""
        self.elsewhere[name] = max(since, self.elsewhere.get(name, since))  # another may know an older stream of it
        session = self._here.session(name)
        if session is not None and session.closed is None:
            self._overlap.add(name)

    def _under(self, floors: Floors) -> bool:
        """For the whole cluster: whether its floor is at least this revision, and nothing fails of what is meant."""
        if self.rev is None or floors.known.below(self.rev):
            return False
        found = floors.now()
        nobody = found.empty and not self.selection.known
        if found.rev < self.rev or nobody or any(not self.has(session.node_name) for session in found.failing):
            return False
        if self._lack and self._lack[0] in found.others and not self.has(self._lack[0]):
            return False
        known = self.selection.known.difference(found.others)
        self._lack = [name for name in found.others if not self.has(name)][:1]
        self._lack += [name for name in known if self._here.session(name) is None and not self.has(name)][:1]
        if self._lack:
            return False
        self._apart = (*found.others, *known)
        self.everybody = found.named(self._apart)
        return True

    def _begin(self) -> None:
        self._todo, self._lack = list(self.selection.names()), []
        self._chosen = len(self._todo)
        self._may_lack = self.selection.may_lack(self._chosen)

    def _enough(self) -> bool:
        self._lack = [name for name in self._lack if not self.has(name)]
        while self._todo and len(self._lack) <= self._may_lack:
            name = self._todo.pop()
            if not self.has(name):
                self._lack.append(name)
        return self._chosen > 0 and len(self._lack) <= self._may_lack  # of no node nothing can be said

    def has(self, name: str) -> bool:
        """Whether the node's kernel has it. What its open stream here says counts before what others say, unless that
        of another replica is newer."""
        self.looks += 1
        session = self._here.session(name)
        if self.rev is not None and has(self._here, session, self.rev, self.target.keys):
            return True
        return name in self.elsewhere and (session is None or session.closed is not None or self._outlived(name))

    def without_stream(self) -> list[str]:
        """The nodes that have it and whose agents have no stream at any replica: they acknowledged it before."""
        names = self.selection.names() if self.everybody is None else self._apart
        silent = (name for name in names if self._here.stream_seconds(name) == inf)
        return sorted(name for name in silent if self.elsewhere.get(name, -inf) == -inf and self.has(name))

    def _outlived(self, name: str) -> bool:
        """Whether the node's stream is shown as open here, and it has a newer one at another replica."""
        session = self._here.session(name)
        return session is not None and session.closed is None and session.since < self.elsewhere[name]


def hastes(nodes: int) -> float:
    """Revisions a second that so many agents acknowledge at once."""
    return min(HASTES, HASTED_ACKS / max(1, nodes))


class Floors:
    """The floor as it was found last, and as it is now: looked for once in a tick at most."""

    def __init__(self, here: Here) -> None:
        self.known = Floor(0)
        self._here, self._fresh = here, False

    def tick(self) -> None:
        """What was found before may have changed."""
        self._fresh = False

    def now(self) -> Floor:
        """As it is in this tick."""
        if not self._fresh:
            self.known, self._fresh = floor(self._here), True
        return self.known


class Waits:
    """All waiters of one replica. `refused` counts callers that were sent away."""

    def __init__(self, here: Here) -> None:
        self.refused = 0
        self._here = here
        self._waiters: dict[Waiter, None] = {}
        self._rooms = Rooms()
        self._timer: asyncio.TimerHandle | None = None
        self._listening, self._haste = ExitStack(), ExitStack()
        self._hastened = self._stopping = False
        self._floors = Floors(here)
        self._allowance = Allowance(HASTES, HASTES_AT_ONCE)

    def __len__(self) -> int:
        return len(self._waiters)

    @contextmanager
    def waiting(self, waiter: Waiter, request: pb.WaitAppliedRequest, caller: str) -> Iterator[None]:
        """Has the waiter look while the context is open. `caller`: its address. Raises `TooManyWaiters`, `Stopping`."""
        self.unless_stopping()
        room = self._rooms.of(request)
        try:
            room.enter(caller, peer=request.this_replica)
        except TooManyWaiters:
            self.refused += 1
            raise
        if not self._waiters:
            self._listening.enter_context(self._here.cluster.waking(self._news))
        self._waiters[waiter] = None
        self.moved()
        try:
            yield
        finally:
            del self._waiters[waiter]
            room.leave(caller)
            self._hasten()
            if not self._waiters:
                self._listening.close()

    def stop(self) -> None:
        """This replica stops: whoever waits, or comes to wait, hears so."""
        self._stopping = True
        for waiter in self._waiters:
            waiter.done.set()
            waiter.moved.set()

    def spell(self, seconds: float, looks: float) -> float:
        """How long each waiter pauses between two looks at all nodes: so many seconds, longer where many wait."""
        return max(seconds, len(self._waiters) * len(self._here.nodes) / looks)

    def unless_stopping(self) -> None:
        """Raises `Stopping`."""
        if self._stopping:
            raise Stopping("this replica stops, and cannot say any more what is waited for: ask another one")

    def _news(self) -> None:
        """There is a new revision: if Acks were asked for at once, they are for this one."""
        self._haste.close()
        self._hastened = False
        self.moved()

    def moved(self) -> None:
        """Something may have changed: an Ack, a stream, a revision. Nearly free while nobody waits."""
        if self._waiters and self._timer is None:
            tick = min(LONGEST_TICK, TICK * max(1.0, len(self._waiters) / FEW))
            self._timer = asyncio.get_running_loop().call_later(tick, self.look)

    def look(self) -> None:
        """Has every waiter look now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._floors.tick()
        for waiter in list(self._waiters):
            if not waiter.done.is_set() and waiter.look(self._floors):
                waiter.done.set()
        self._hasten()

    def _hasten(self) -> None:
        """Has the next revision acknowledged at once where somebody waits for what is not there yet; not too often."""
        wanted = any(waiter.rev is None for waiter in self._waiters)
        if wanted and not self._hastened:
            self._allowance.per_second = hastes(len(self._here.nodes))
            if self._allowance.take(time.monotonic()):
                self._haste.enter_context(self._here.cluster.awaited())
                self._hastened = True
        elif not wanted and self._hastened:
            self._haste.close()
            self._hastened = False
