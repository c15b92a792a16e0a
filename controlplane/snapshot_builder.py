"""Builds snapshots in a thread, so that no change and no heartbeat waits for them. The server's `Snapshots` uses it.

The state that it builds from is immutable; the result arrives in the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time

from controlplane.building import Done
from deltaplane.logs import event
from deltaplane.snapshot import State, build
from deltaplane.v1 import delta_pb2 as pb

log = logging.getLogger(__name__)

MOST_REST = 5.0  # seconds


class Rest:
    """Pauses between builds, so that agents that ask again and again get at most a third of a core. Pure."""

    def __init__(self) -> None:
        self._until = 0.0

    def wait(self, now: float) -> float:
        """For how many seconds the next build waits."""
        return max(0.0, self._until - now)

    def built(self, began: float, ended: float) -> None:
        """A build has taken this long."""
        self._until = ended + min(MOST_REST, 2 * (ended - began))


class SnapshotBuilder:
    """A `controlplane.building.Builder` for use within an event loop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._rest = Rest()

    def __call__(self, state: State, encoding: pb.Encoding.ValueType, done: Done) -> None:
        task = asyncio.create_task(_build(state, encoding, done, self._rest))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _build(state: State, encoding: pb.Encoding.ValueType, done: Done, rest: Rest) -> None:
    snapshot = None
    try:
        await asyncio.sleep(rest.wait(time.monotonic()))
        began = time.monotonic()
        snapshot = await asyncio.to_thread(build, state, encoding)
        rest.built(began, time.monotonic())
    except Exception as error:  # noqa: BLE001 - whatever it is, agents that need none are still served
        event(log, logging.ERROR, "snapshot cannot be built", rev=state.rev, error=f"{type(error).__name__}: {error}")
    finally:
        done(snapshot)  # also after a cancellation: streams wait for it
