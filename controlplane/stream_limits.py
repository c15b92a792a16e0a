"""The sizes and times of a stream."""

from __future__ import annotations

from msgspec import Struct


class Limits(Struct, frozen=True):
    """Seconds and bytes."""

    window_deltas: int = 64
    window_bytes: int = 4 * 1024 * 1024
    message_bytes: int = 256 * 1024  # a target; a single batch may have up to 1 MiB
    heartbeat: float = 10.0
    min_ack_interval: float = 0.5
    most_ack_interval: float = 1.5
    acks: float = 2000.0  # per second, of all streams together: an eighth of a core
    hold: float = 5.0
    hello: float = 10.0  # until the Hello of a new stream
    answer: float = 10.0  # until an agent's answer to a DigestRequest; then it gets the whole state
    stalled: float = 60.0
    resync_pause: float = 5.0  # between two snapshots that an agent requests

    def ack_interval(self, streams: int) -> float:
        """Between two Acks of one stream that nobody waits for, where a replica has so many streams."""
        return min(self.most_ack_interval, max(self.min_ack_interval, streams / self.acks))
