"""The replicas of this control plane that agents can be sent to now: those of `--replicas`, asked now and then.

A replica counts while it answers as one that serves the same cluster, has the whole state and takes agents. One that is
away may be back soon, as in a rollout: until then, and for `AWAY` seconds at most, no agent is sent anywhere.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

from msgspec import Struct

from controlplane.rebalance import limit
from controlplane.replica_places import Unfound
from deltaplane.flags import host_port, joined
from deltaplane.logs import event
from deltaplane.once import Once

log = logging.getLogger(__name__)

PERIOD = 10.0  # seconds between two looks
AWAY = 600.0  # seconds for which one that was there, or is named, is waited for
_NAMES, _ME = "names", "me"


class Found(Struct, frozen=True):
    """A replica that was asked. `fault`: why no agent can go there; empty: they can. `follows`: it follows all of its
    source. `agents`: how many it has."""

    fault: str = ""
    follows: bool = True
    agents: int = 0


class Others(Protocol):
    """The other replicas (`peers.Peers`)."""

    @property
    def own(self) -> AbstractSet[str]:
        """Where this replica itself was found to answer."""

    async def addresses(self) -> Sequence[str]:
        """Where they are. Raises `Unfound`."""

    async def serves(self, address: str) -> Found | None:
        """Who answers there. None: this replica itself."""


class Reached:
    """`me`: this replica's own place (HOST:PORT), which always counts. `monotonic` in seconds."""

    def __init__(self, others: Others, me: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.me = joined(*host_port(me))
        self.reached = frozenset({self.me})
        self.away = frozenset[str]()
        self._peers: dict[str, Found] = {}  # those that agents can go to
        self._others, self._monotonic = others, monotonic
        self._waited: dict[str, float] = {}  # since when a place is there or waited for, in monotonic seconds
        self._said = Once[str]()
        self._listed = False  # `me` was among the places

    @property
    def _misplaced(self) -> bool:
        """The others know this replica by another place than `me`, and would work out other homes."""
        return not self._listed and bool(self._others.own) and self.me not in self._others.own

    @property
    def spread(self) -> frozenset[str]:
        """The replicas over which streams are spread; this one alone while another is away, or its place is wrong."""
        return frozenset({self.me}) if self.away or self._misplaced else self.reached

    def better(self, nodes: int, agents: int) -> frozenset[str]:
        """The others that follow all of their source and have room, as the rules of `rebalance` see it, in a cluster of
        so many Nodes; this replica has `agents`."""
        whole = {place: each.agents for place, each in self._peers.items() if each.follows}
        most = limit(max(nodes, agents + sum(each.agents for each in self._peers.values())), max(1, len(whole)))
        return frozenset(place for place, held in whole.items() if held < most)

    async def run(self) -> None:
        """Looks for ever. Ends by cancellation."""
        while True:
            await self.look()
            await asyncio.sleep(PERIOD)

    async def look(self) -> None:
        """Finds and asks all once."""
        named = await self._named()
        self._listed |= self.me in named
        places = [place for place in named if place != self.me]
        asked = dict(zip(places, await asyncio.gather(*map(self._others.serves, places)), strict=True))
        answers = {place: answer for place, answer in asked.items() if answer is not None}
        self._peers = {place: answer for place, answer in answers.items() if not answer.fault}
        found = frozenset({self.me, *self._peers})
        away = self._missed(frozenset(answers), found)
        self._tell({place: answer.fault for place, answer in answers.items()})
        if self._misplaced and self._said.note(_ME, ""):
            place = ",".join(sorted(self._others.own))
            text = "agents stay: --replicas has this replica at another place than --advertise"
            event(log, logging.WARNING, text, replicas=place, advertise=self.me)
        if (found, away) != (self.reached, self.away):
            shown = {"reached": ",".join(sorted(found)), "away": ",".join(sorted(away)), "me": self.me}
            event(log, logging.INFO, "replicas", **shown)
        self.reached, self.away = found, away

    async def _named(self) -> Sequence[str]:
        try:
            found = await self._others.addresses()
        except Unfound as error:
            if self._said.note(_NAMES, str(error)):
                event(log, logging.WARNING, "cannot find all replicas", reason=str(error))
            return error.places
        if self._said.clear(_NAMES):
            event(log, logging.INFO, "all replicas are found again")
        return found

    def _missed(self, named: frozenset[str], found: frozenset[str]) -> frozenset[str]:
        """Who is not there and waited for: it was there a while ago, or is named since then."""
        now = self._monotonic()
        self._waited.update(dict.fromkeys(found - {self.me}, now))
        for place in named:
            self._waited.setdefault(place, now)
        self._waited = {place: since for place, since in self._waited.items() if place in named or now - since < AWAY}
        return frozenset(p for p, since in self._waited.items() if p not in found and now - since < AWAY)

    def _tell(self, answers: dict[str, str]) -> None:
        faults = {place: reason for place, reason in answers.items() if reason}
        self._said.retain([_NAMES, _ME, *faults])
        for place, reason in faults.items():
            if self._said.note(place, reason):
                event(log, logging.WARNING, "no agent can be sent to a replica", replica=place, reason=reason)
