"""The control plane's real server for `fanout`, on a made-up state.

    python -m bench.fanout_server LISTEN SERVICES ENDPOINTS [CERTIFICATE KEY]

Commands are lines of JSON on standard input, answers lines on standard output (`fanout`).
"""

from __future__ import annotations

import asyncio
import resource
import socket
import sys
import time
from collections import deque
from contextlib import nullcontext
from typing import Any

from bench import fanout_commands, machine
from bench.cluster import Changes, objects
from bench.fanout_commands import Command
from controlplane.cluster import WATCHED, Cluster
from controlplane.facts import Fact
from controlplane.identity.door import Door
from controlplane.identity.flags import Security
from controlplane.identity.listener import Listener
from controlplane.identity.peer import Way
from controlplane.log import Log
from controlplane.main import WHOLE
from controlplane.server import Server
from controlplane.session import Session
from controlplane.stream_limits import Limits
from controlplane.trace import NoTracing, Tracing
from deltaplane import heap, loop_meter
from deltaplane.loop_meter import LoopMeter
from deltaplane.tls import Files

PATIENCE = 120.0  # seconds until all agents have acknowledged
LOOKS, LATE = 0.01, 64  # seconds between two; nodes that have not acknowledged, of which one look sees no more

PAST = 64  # revisions


class AllNodes(Cluster):
    """Every name that begins with `node-` is a Node's: there are more agents than Nodes in the state.

    `agents`: for how many the server is the only replica.
    """

    agents = 0

    @property
    def nodes(self) -> int:
        return max(super().nodes, 2 * self.agents)

    def has_node(self, name: str) -> bool:
        return name.startswith("node-")


class Driven:
    """A server and what it is told to do."""

    def __init__(
        self,
        listen: str,
        services: int,
        endpoints: int,
        meter: LoopMeter,
        *,
        files: Files | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        tracing = tracing or NoTracing()
        self._cluster = AllNodes(Log(), tracing)
        for kind in WATCHED:
            things = (thing for thing in objects(services, endpoints) if thing.key.kind == kind)
            self._cluster.replace(kind, [Fact(thing.key, thing) for thing in things], "1")
            self._cluster.synced(kind)
        self._changes = Changes(services, endpoints)
        security = None if files is None else Security(Way.TLS, files)  # who the agents are is not asked
        self._health, self._door = free_address(), Door()
        self._server = Server(
            listen, self._cluster, tracing, listener=Listener(listen, security), health_listen=self._health,
            door=self._door,
        )  # fmt: skip
        self._meter = meter

    async def run(self) -> None:
        """Serves and obeys until standard input ends."""
        await self._server.start()
        running = asyncio.create_task(self._server.run())
        await fanout_commands.obey(self.commands())
        running.cancel()

    def commands(self) -> dict[str, Command]:
        """What it can be told to do."""
        return {
            "usage": self.usage,
            "expect": self.expect,
            "change": self.change,
            "flow": self.flow,
            "renew": self.renew,
            "history": self.history,
        }

    async def expect(self, agents: int) -> dict[str, Any]:
        """So many agents will come; returns the seconds between the Acks of each."""
        self._cluster.agents = agents
        return {"interval": Limits().ack_interval(agents)}

    async def usage(self, *, afresh: bool = False) -> dict[str, Any]:
        """CPU seconds, KiB and bytes so far. `afresh`: the longest turn is that of the time until the next call."""
        longest = self._meter.longest
        if afresh:
            self._meter.longest = 0.0
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "loop_cpu": time.thread_time(),
            "refused": sum(self._door.refused.counts.values()),
            "health": self._health,
            "cpu": used.ru_utime + used.ru_stime,
            "system": used.ru_stime,
            "rss_kib": machine.rss(),
            "peak_kib": machine.rss_peak(),
            "sent_bytes": self._server.nodes.sent_bytes,
            "nodes": len(self._server.nodes),
            "longest_turn": longest,
            "epoch": self._cluster.log.epoch.hex(),
        }

    async def change(self, *, awaited: bool = False, number: int = 0) -> dict[str, Any]:
        """One change; returns when all nodes (or this number) have acknowledged it: seconds of each, in order."""
        number = number or len(self._server.nodes)
        with self._cluster.awaited() if awaited else nullcontext():
            began = time.monotonic()
            self._cluster.update([self._changes.next()])
        async with asyncio.timeout(PATIENCE):
            return {"took": [at - began for at in await self._acknowledged(number)]}

    async def _acknowledged(self, number: int) -> list[float]:
        """When each of so many nodes had acknowledged the head, as seen in looks that take a hundredth of a core.

        A look at all of thousands would take a tenth of what is measured. Nodes acknowledge nearly in the order that
        they are sent to, so each look goes on where the last one ended, past a few that are late.
        """
        head, lacking = self._cluster.log.head, deque(self._server.nodes)
        found: list[float] = []
        while len(found) < number:
            await asyncio.sleep(LOOKS)
            now = time.monotonic()
            late: list[Session] = []
            while lacking and len(late) < LATE:
                session = lacking.popleft()
                if session.applied_rev < head:
                    late.append(session)
                else:
                    found.append(now)
            lacking.extendleft(reversed(late))
        return found

    async def flow(self, rate: float, seconds: float) -> dict[str, Any]:
        """Changes at a steady pace: when each came, and how far the Acks of the last node were behind meanwhile."""
        before, began = await self.usage(), time.monotonic()
        emitted: list[tuple[int, float]] = []
        lags = [0.0]
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            self._cluster.update([self._changes.next()])
            emitted.append((self._cluster.log.head, time.monotonic()))
            if number % max(1, int(rate / 2)) == 0 and number > rate:
                lags.append(self._lag())
        took, after = time.monotonic() - began, await self.usage()
        spent = {name: after[name] - before[name] for name in ("cpu", "sent_bytes")}
        return {"took": took, "emitted": emitted, "lags": lags, "longest_turn": self._meter.longest, **spent}

    def _lag(self) -> float:
        now = time.monotonic()
        return max(session.behind_seconds(now) for session in self._server.nodes)

    async def history(self, number: int) -> dict[str, Any]:
        """So many changes, and PAST of the first revisions: an agent of then can have all that follow merged."""
        log, past = self._cluster.log, []
        for made in range(number):
            if made < PAST:
                past.append((log.head, log.digest_at(log.head)))
            self._cluster.update([self._changes.next()])
            if made % 100 == 0:
                await asyncio.sleep(0)
        return {"epoch": log.epoch.hex(), "past": past}

    async def renew(self) -> dict[str, Any]:
        """Ends every stream: the agents come back, with another epoch's revision and an equal digest."""
        self._cluster.log.digest ^= 1
        self._cluster.heal()
        return {"at": time.monotonic(), "epoch": self._cluster.log.epoch.hex()}


def free_address() -> str:
    """Of the loopback, free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"127.0.0.1:{probe.getsockname()[1]}"


async def main(meter: LoopMeter, listen: str, services: str, endpoints: str, *files: str) -> None:
    await Driven(listen, int(services), int(endpoints), meter, files=Files(*files) if files else None).run()


if __name__ == "__main__":
    heap.tune(whole=WHOLE)
    shared = LoopMeter()
    loop_meter.run(main(shared, *sys.argv[1:]), shared)
