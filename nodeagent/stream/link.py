"""What the agent knows of its way to the replicas: where its stream leads, since when, and why the last one ended.

Kept by `nodeagent.stream.client`; inspection reads it. Times are Unix nanoseconds.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from deltaplane import moments


class Link(Struct):
    """`server`: of the stream, or tried last. `since`: of the stream, or of its lack."""

    servers: tuple[str, ...] = ()
    server: str = ""
    up: bool = False
    since: int = 0
    error: str = ""
    error_server: str = ""
    error_at: int = 0
    clock: Callable[[], int] = moments.unix_nano

    def __post_init__(self) -> None:
        self.since = self.clock()

    def tries(self, server: str) -> None:
        """An attempt begins."""
        self.server = server

    def opened(self) -> None:
        """The replica has answered."""
        self.up, self.since = True, self.clock()

    def ended(self, reason: str) -> None:
        """The stream ended, or none came about."""
        self.error, self.error_server, self.error_at = reason, self.server, self.clock()
        if self.up:
            self.up, self.since = False, self.error_at
