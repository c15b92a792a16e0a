"""The Welcome: which replica this is, where the stream starts, and the limits of the stream. Pure."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from controlplane.log import Log
from controlplane.resume import PROTOCOL, Start
from controlplane.store import Store
from controlplane.stream_limits import Limits
from deltaplane.snapshot import ON_REQUEST
from deltaplane.v1 import delta_pb2 as pb


class Replica(Struct, frozen=True):
    """What all streams of one replica share. `ready`: whether it has seen the whole cluster state. `streams`: how many
    streams there are, or are soon."""

    store: Store
    log: Log
    server_id: str
    cluster_id: Callable[[], str]
    ready: Callable[[], bool]
    streams: Callable[[], int]


def welcome(replica: Replica, start: Start, limits: Limits, unix_nano: int, *, behind: bool) -> pb.WatchResponse:
    """The Welcome. `behind`: the agent has seen API versions that this replica has not; the reason says so."""
    message = pb.Welcome(
        protocol=PROTOCOL,
        server_id=replica.server_id,
        epoch=replica.log.epoch,
        head_rev=replica.log.head,
        decision=start.decision,
        reason=start.reason + ("; this replica is behind what the agent has seen" if behind else ""),
        ack_window=limits.window_deltas,
        min_ack_interval_ms=int(limits.ack_interval(replica.streams()) * 1000),
        heartbeat_interval_ms=int(limits.heartbeat * 1000),
        server_time_unix_nano=unix_nano,
        cluster_id=replica.cluster_id(),
        capabilities=[ON_REQUEST],
    )
    return pb.WatchResponse(welcome=message)
