"""A control plane's real server on a made-up state, for a real agent to be fed by: run as a process of its own.

    python -m bench.replica LISTEN SERVICES ENDPOINTS CHANGES

At SIGUSR1 it makes CHANGES single changes and prints "changed". Ends when it is killed.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from bench.cluster import Changes, objects
from controlplane.cluster import WATCHED, Cluster
from controlplane.facts import Fact
from controlplane.log import Log
from controlplane.server import Server
from controlplane.trace import NoTracing

APART = 0.005  # seconds between two changes


async def serve(listen: str, services: int, endpoints: int, number: int) -> None:
    cluster = Cluster(Log(), NoTracing())
    for kind in WATCHED:
        things = (thing for thing in objects(services, endpoints) if thing.key.kind == kind)
        cluster.replace(kind, [Fact(thing.key, thing) for thing in things], "1")
        cluster.synced(kind)
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, asked.set)
    server = Server(listen, cluster, NoTracing())
    await server.start()
    running = asyncio.create_task(server.run())
    print("ready", flush=True)
    await asked.wait()
    changes = Changes(services, endpoints)
    for _ in range(number):
        cluster.update([changes.next()])
        await asyncio.sleep(APART)
    print("changed", flush=True)
    await running


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], *map(int, sys.argv[2:])))
