"""Builds snapshots in a thread, so that no change and no heartbeat waits for one. Used by the server's `Snapshots`.

What is built from is immutable; the result is handed over in the event loop.
"""

from __future__ import annotations

import asyncio
import logging

from controlplane.snapshot import Done
from deltaplane.logs import event
from deltaplane.snapshot import State, build
from deltaplane.v1 import delta_pb2 as pb

log = logging.getLogger(__name__)


class SnapshotBuilder:
    """A `controlplane.snapshot.Builder` for use within an event loop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, state: State, encoding: pb.Encoding.ValueType, done: Done) -> None:
        task = asyncio.create_task(_build(state, encoding, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _build(state: State, encoding: pb.Encoding.ValueType, done: Done) -> None:
    snapshot = None
    try:
        snapshot = await asyncio.to_thread(build, state, encoding)
    except Exception as error:  # noqa: BLE001 - whatever it is, agents that need none are still served
        event(log, logging.ERROR, "snapshot cannot be built", rev=state.rev, error=f"{type(error).__name__}: {error}")
    finally:
        done(snapshot)  # also when this is cancelled: streams wait for it
