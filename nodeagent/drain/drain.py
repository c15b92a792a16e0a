"""The parts of GET /drain, joined: wired by `nodeagent.app`, where `--drain-listen` asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from deltaplane.supervise import Job
from nodeagent.config import AgentSettings
from nodeagent.dataplane.commit_hooks import Told
from nodeagent.drain.figures import DrainFigures
from nodeagent.drain.own import OwnState, Turn
from nodeagent.drain.pages import OF_ONE_CLIENT, DrainServer
from nodeagent.drain.questions import Questions
from nodeagent.drain.upstream import Upstream
from nodeagent.stream.credentials import Dialler
from nodeagent.stream.mirror import Mirror
from nodeagent.stream.places import Place
from nodeagent.web.connections import Connections, most
from nodeagent.web.listener import serve_with


class Drain:
    """`hook` goes to the agent's commits; `figures` to its metrics; `jobs` serve until cancelled, and do nothing but
    that."""

    def __init__(
        self,
        settings: AgentSettings,
        turn: Turn,
        *,
        mirror: Callable[[], Mirror],
        addresses: Callable[[], Collection[bytes]],
        dialler: Dialler,
        place: Callable[[], Place | None],
    ) -> None:
        self._settings = settings
        own = OwnState(turn, settings.node_name, mirror, addresses, lambda: settings.cluster_cidrs)
        self._questions = Questions(own, Upstream(dialler, place).gone)
        self._everybody = Connections[asyncio.StreamWriter](most(), OF_ONE_CLIENT)
        self.hook = Told(self._questions.moved)
        self.figures = DrainFigures(lambda: len(self._questions))

    def jobs(self) -> list[Job]:
        """One for each address of `--drain-listen`."""
        return [Job(f"drain {address}", self._serve(address)) for address in self._settings.drain_listen]

    async def _serve(self, address: str) -> Any:
        make = partial(
            DrainServer,
            questions=self._questions,
            figures=self.figures,
            seconds=self._settings.drain_timeout,
            everybody=self._everybody,
        )
        await serve_with(address, "drain-listen", make, hard_fail=self._settings.bind_address_hard_fail)
