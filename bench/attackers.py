"""Peers that mean no good, for `attacks`: each attack runs until it is killed.

python -m bench.attackers SERVER NAME
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from deltaplane.v1 import delta_pb2 as pb

WATCH = "/deltaplane.v1.DeltaService/Watch"
OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1))
STREAMS, CONNECTIONS = 8, 4
REPORTS = 60_000  # empty ones in one Ack, 120 kB


def hello(name: str) -> bytes:
    return pb.WatchRequest(hello=pb.Hello(node_name=name, protocol_min=1, protocol_max=1)).SerializeToString()


def acks(reports: int) -> bytes:
    ack = pb.Ack()
    for _ in range(reports):
        ack.commits.add()
    return pb.WatchRequest(ack=ack).SerializeToString()


def flood(message: bytes) -> Callable[[grpc.aio.Channel, str], Awaitable[None]]:
    """A stream that says this as fast as it is taken, and reads what comes."""

    async def run(channel: grpc.aio.Channel, name: str) -> None:
        call: Any = channel.stream_stream(WATCH)()
        await call.write(hello(name))

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


async def new_names(channel: grpc.aio.Channel, name: str) -> None:
    """A stream after the other, each of another node."""
    number = 0
    while True:
        number += 1
        call: Any = channel.stream_stream(WATCH)()
        await call.write(hello(f"{name}-{number}"))
        await call.read()
        call.cancel()


async def nothing_said(channel: grpc.aio.Channel, _: str) -> None:
    """A stream without a Hello after the other."""
    while True:
        call: Any = channel.stream_stream(WATCH)()
        async for _ in call:
            pass


ATTACKS: dict[str, Callable[[grpc.aio.Channel, str], Awaitable[None]]] = {
    "small Acks": flood(acks(0)),
    "Acks of 60,000 reports": flood(acks(REPORTS)),
    "Hellos of new names": new_names,
    "streams without a Hello": nothing_said,
}


async def again(channel: grpc.aio.Channel, name: str, attack: str) -> None:
    while True:
        try:
            await ATTACKS[attack](channel, name)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await asyncio.sleep(0.01)


async def main(server: str, attack: str) -> None:
    channels = [grpc.aio.insecure_channel(server, options=OPTIONS) for _ in range(CONNECTIONS)]
    print("{}", flush=True)
    await asyncio.gather(*(again(channels[one % CONNECTIONS], f"evil-{one}", attack) for one in range(STREAMS)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
