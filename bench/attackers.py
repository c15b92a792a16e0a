"""Peers that mean no good, for `attacks`: each attack runs until it is killed.

    python -m bench.attackers SERVER NAME [WHAT]

`WHAT`: JSON with what the attack has to know of the server: `health` (an address), its `epoch`, and `past`, old
revisions with their digests. Each hostile agent speaks for a Node of its own, as with its token; but for the attack
with invented names.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from typing import Any

import grpc
import grpc.aio
from msgspec import Struct

from deltaplane.snapshot import ON_REQUEST, PARTIAL
from deltaplane.v1 import delta_pb2 as pb

WATCH = "/deltaplane.v1.DeltaService/Watch"
TAIL = "/deltaplane.v1.InspectionService/TailCommits"
OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1))
AGENTS, CONNECTIONS = 8, 4
REPORTS = 60_000  # empty ones in one Ack, 120 kB
TAILS, IDLE = 1_000, 400
STUCK = 4  # streams of each agent


class Aim(Struct, frozen=True):
    """Whom to attack."""

    server: str
    health: str = ""
    epoch: str = ""
    past: list[tuple[int, int]] = []


class Agent(Struct):
    """A hostile agent; several share a connection."""

    channel: grpc.aio.Channel
    name: str
    aim: Aim

    def stream(self) -> Any:
        """A new call."""
        return self.channel.stream_stream(WATCH)()

    def hello(self, name: str = "", **resume: Any) -> bytes:
        """Its Hello, as a node of this name."""
        said = pb.Hello(node_name=name or self.name, protocol_min=1, protocol_max=1, agent_instance=self.name)
        said.capabilities.extend((PARTIAL, ON_REQUEST))
        said.resume.MergeFrom(pb.Resume(**resume))
        return pb.WatchRequest(hello=said).SerializeToString()


def acks(reports: int) -> bytes:
    """One Ack with so many empty reports."""
    ack = pb.Ack()
    for _ in range(reports):
        ack.commits.add()
    return pb.WatchRequest(ack=ack).SerializeToString()


def flood(message: bytes) -> Callable[[Agent], Awaitable[None]]:
    """A stream that says this as fast as it is taken, and reads what comes."""

    async def run(agent: Agent) -> None:
        call = agent.stream()
        await call.write(agent.hello())

        async def read() -> None:
            async for _ in call:
                pass

        reading = asyncio.create_task(read())
        try:
            while True:
                await call.write(message)
        finally:
            reading.cancel()

    return run


async def new_names(agent: Agent) -> None:
    """A stream after the other, each of another node, which is none."""
    for number in count():
        call = agent.stream()
        await call.write(agent.hello(f"evil-{agent.name}-{number}"))
        await call.read()
        call.cancel()


async def nothing_said(agent: Agent) -> None:
    """A stream without a Hello after the other."""
    while True:
        async for _ in agent.stream():
            pass


async def reads_nothing(agent: Agent) -> None:
    """Streams that take their state and all changes, and read none of it."""
    for _ in range(STUCK):
        call = agent.stream()
        await call.write(agent.hello())
        await asyncio.sleep(0.1)
    await call.wait_for_connection()
    await asyncio.sleep(3600)


async def wrong_digest(agent: Agent) -> None:
    """Wants the whole state again after every message."""
    call = agent.stream()
    await call.write(agent.hello())
    again = pb.WatchRequest(resync_request=pb.ResyncRequest(reason=pb.RESYNC_REASON_DIGEST_MISMATCH))
    async for message in call:
        if pb.WatchResponse.FromString(message).WhichOneof("message") in {"snapshot_end", "delta", "heartbeat"}:
            await call.write(again.SerializeToString())


async def merges(agent: Agent) -> None:
    """Comes from an old revision, takes all that has come since in one message, and comes again from another one."""
    for rev, digest in agent.aim.past:
        call = agent.stream()
        await call.write(agent.hello(epoch=bytes.fromhex(agent.aim.epoch), applied_rev=rev, state_digest=digest))
        async for message in call:
            if pb.WatchResponse.FromString(message).HasField("delta"):
                break
        call.cancel()


async def tails(agent: Agent) -> None:
    """Its share of TAILS questions for all commits."""

    ask: Any = agent.channel.unary_stream(TAIL)

    async def one() -> None:
        while True:
            with suppress(grpc.aio.AioRpcError):
                async for _ in ask(b""):
                    pass
            await asyncio.sleep(0.01)

    await asyncio.gather(*(one() for _ in range(TAILS // AGENTS)))


async def idle(agent: Agent) -> None:
    """Opens connections to the agents' port and to the probes', and says nothing; opens those anew that are closed."""

    async def one(address: str) -> None:
        host, _, port = address.rpartition(":")
        while True:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection(host, int(port))
                while await reader.read(4096):
                    pass
                writer.close()
            await asyncio.sleep(0.01)

    addresses = (agent.aim.server, agent.aim.health)
    await asyncio.gather(*(one(addresses[number % 2]) for number in range(IDLE // AGENTS)))


ATTACKS: dict[str, Callable[[Agent], Awaitable[None]]] = {
    "small Acks": flood(acks(0)),
    "Acks of 60,000 reports": flood(acks(REPORTS)),
    "Hellos of new names": new_names,
    "streams without a Hello": nothing_said,
    "reads nothing": reads_nothing,
    "wrong digest": wrong_digest,
    "merges 29,000 revisions": merges,
    "1,000 tails": tails,
    "400 idle connections": idle,
}


async def again(agent: Agent, attack: str) -> None:
    while True:
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await ATTACKS[attack](agent)
        await asyncio.sleep(0.01)


async def main(server: str, attack: str, what: str = "{}") -> None:
    aim = Aim(server, **json.loads(what))
    channels = [grpc.aio.insecure_channel(server, options=OPTIONS) for _ in range(CONNECTIONS)]
    agents = [Agent(channels[one % CONNECTIONS], f"node-evil-{one}", aim) for one in range(AGENTS)]
    print("{}", flush=True)
    await asyncio.gather(*(again(agent, attack) for agent in agents))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
