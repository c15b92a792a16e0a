"""The server of `fanout` under observation: its tracing can be changed while it runs, and rounds come at a fixed pace.

    python -m bench.watching_server LISTEN SERVICES ENDPOINTS

The product's own pace makes rounds rarer where they cost more, which would hide a cost that is to be measured here.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence
from typing import Any

from bench.fanout_commands import Command
from bench.fanout_server import Driven
from controlplane.main import WHOLE
from controlplane.otlp import OtlpTracing
from controlplane.pace import SHARE, Pace
from controlplane.propagation import Propagation
from controlplane.server import Server
from controlplane.trace import NodeCommit, NoTracing, Tracing
from deltaplane import heap, loop_meter
from deltaplane.loop_meter import LoopMeter
from deltaplane.v1 import delta_pb2 as pb

ROUND = 1 / 3  # seconds between two rounds; the product's pace comes to about as many at this load


class Switched:
    """Tracing that passes everything on to what was given last."""

    listens = True

    def __init__(self) -> None:
        self.to: Tracing = Propagation(NoTracing())

    def give(self, to: Tracing) -> Tracing:
        """Passes on to this from now on; returns what it was before."""
        before, self.to, self.listens = self.to, to, to.listens
        return before

    def sample(self, name: str, event_ns: int, ingested_ns: int) -> str:
        return self.to.sample(name, event_ns, ingested_ns)

    def batched(self, causes: Sequence[pb.Cause], sealed_ns: int) -> None:
        self.to.batched(causes, sealed_ns)

    def committed(self, commit: NodeCommit) -> None:
        self.to.committed(commit)

    def close(self) -> None:
        self.to.close()


class Watched(Driven):
    """`traced` chooses what hears of changes and commits."""

    def __init__(self, listen: str, services: int, endpoints: int, meter: LoopMeter) -> None:
        self._switched = Switched()
        super().__init__(listen, services, endpoints, meter, tracing=self._switched)
        _steady(self._server, ROUND)

    def commands(self) -> dict[str, Command]:
        return {**super().commands(), "traced": self.traced, "counts": self.counts}

    async def traced(self, *, metrics: bool = True, endpoint: str = "", ratio: float = 0.0) -> dict[str, Any]:
        """From now on with these; what was to be exported before is sent off first."""
        await asyncio.to_thread(self._switched.give(NoTracing()).close)
        tracing: Tracing = NoTracing()
        if endpoint:
            tracing = OtlpTracing(endpoint, ratio)
        self._switched.give(Propagation(tracing) if metrics else tracing)
        return {}

    async def counts(self) -> dict[str, Any]:
        """What has happened since the start."""
        return {"rounds": pace_of(self._server).rounds, "refused": self._server.waits.refused}


def pace_of(server: Server) -> Pace:
    """What offers revisions to the streams of this server."""
    return server._pace  # noqa: SLF001 - the product needs no way to it


def _steady(server: Server, period: float) -> None:
    """Each round counts as if it had cost what makes the next one due after `period` seconds."""
    pace = pace_of(server)
    pace._spent = lambda: period * SHARE * pace.rounds  # noqa: SLF001 - see above


async def main(meter: LoopMeter, listen: str, services: str, endpoints: str) -> None:
    await Watched(listen, int(services), int(endpoints), meter).run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    heap.tune(whole=WHOLE)
    shared = LoopMeter()
    loop_meter.run(main(shared, *sys.argv[1:]), shared)
