"""`python -m tests.streams.agents --servers HOST:PORT,... --names NODE,... [--silence S]`: agents on kernels in memory.

With `--patient` they wait for hours after each stream that comes to nothing, so that only something else ends the wait.
Further flags are those of `deltaplane agent`: what the agents show, and what they believe. Each is the product's own
Agent and Client. One line of JSON on stdout after each message and at each stream's end (see `State`). The process ends
with an error when one of them ends.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time

from msgspec import Struct, json

from deltaplane import supervise
from deltaplane.backoff import Backoff
from nodeagent import config
from nodeagent.agent import Agent
from nodeagent.dataplane.nftables.dataplane import NftablesDataplane
from nodeagent.metrics.registry import Metrics
from nodeagent.node.node_info import NodeInfo
from nodeagent.stream import credentials
from nodeagent.stream.client import Client, Pauses
from nodeagent.stream.liveness import SILENCE_SECONDS
from tests.fakes.nftables.memory import MemoryKernel


class State(Struct, frozen=True):
    """What one agent says of itself. `at`: time.monotonic, the same clock in every process of the machine."""

    node: str
    at: float
    connected: bool
    connects: int  # streams that a replica welcomed
    services: int  # those in its kernel; while something is not written: as many as before
    messages: int
    lost: list[str]  # why it gave streams up


class Reporting(Agent):
    """An agent that writes its state down."""

    def __init__(self, name: str, silence: float) -> None:
        self._kernel = NftablesDataplane(MemoryKernel())
        self._kernel.start()
        self._told = Metrics()
        self._name, self._messages, self._services = name, 0, 0
        self._reasons: list[str] = []
        super().__init__(NodeInfo(name), self._kernel, metrics=self._told, silence=silence)

    def handled(self, now: float) -> None:
        super().handled(now)
        self._messages += 1
        if self.complete and not self._kernel.pending():
            self._services = len(self.mirror.services)
        self.tell()

    def disconnected(self, now: float) -> None:
        super().disconnected(now)
        self.tell()

    def lost(self, now: float) -> str | None:
        reason = super().lost(now)
        if reason is not None:
            self._reasons.append(reason)
        return reason

    def tell(self) -> None:
        """Writes the line."""
        sample = self._told.registry.get_sample_value
        connected = bool(sample("deltaplane_stream_connected"))
        connects = int(sample("deltaplane_stream_connects_total") or 0)
        state = State(
            self._name, time.monotonic(), connected, connects, self._services, self._messages, self._reasons
        )  # fmt: skip
        sys.stdout.buffer.write(json.encode(state) + b"\n")
        sys.stdout.buffer.flush()


HOURS = 1e8  # seconds; what is drawn from 0 to it is not below a minute
PAUSES = Pauses(idle=0.2, refused=2.0)
PATIENT = Pauses(idle=0.2, refused=HOURS, failed=Backoff(HOURS, HOURS))


async def main(servers: list[str], names: list[str], silence: float, pauses: Pauses, flags: list[str]) -> None:
    agents = [Reporting(name, silence) for name in names]
    dialler = credentials.dialler(config.parse([f"--server={','.join(servers)}", *flags]).security, servers)
    await supervise.together(
        *(
            supervise.Job(name, Client(servers, agent, pauses=pauses, dialler=dialler).run())
            for name, agent in zip(names, agents, strict=True)
        )
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--servers", required=True)
    parser.add_argument("--names", required=True)
    parser.add_argument("--silence", type=float, default=SILENCE_SECONDS)
    parser.add_argument("--patient", action="store_const", dest="pauses", const=PATIENT, default=PAUSES)
    given, flags = parser.parse_known_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    asyncio.run(main(given.servers.split(","), given.names.split(","), given.silence, given.pauses, flags))
