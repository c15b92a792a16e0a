"""The interface for building a snapshot. A builder works at once, or later and outside the event loop."""

from __future__ import annotations

from collections.abc import Callable

from deltaplane.snapshot import Snapshot, State, build
from deltaplane.v1 import delta_pb2 as pb

Done = Callable[[Snapshot | None], None]
Builder = Callable[[State, pb.Encoding.ValueType, Done], None]
"""Builds a snapshot of a state, now or later, and hands it to the last argument; None: it could not be built."""


def at_once(state: State, encoding: pb.Encoding.ValueType, done: Done) -> None:
    """A `Builder` that waits for nothing."""
    done(build(state, encoding))
