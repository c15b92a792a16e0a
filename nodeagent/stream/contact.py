"""When the replica was last heard and since when the kernel is behind it, computed at the time of a scrape.

Called by `nodeagent.metrics.registry`; time is given to it. While a stream is closed or silent the head is not known,
so the kernel counts as behind since the last message.
"""

from __future__ import annotations

QUIET_SECONDS = 15.0  # a replica says something every 10 s at least


class Contact:
    """`began`: when this process started, monotonic seconds; no replica has been heard since."""

    def __init__(self, began: float) -> None:
        self.connected = False
        self._heard_at = began
        self._behind_since: float | None = began

    def heard(self, now: float) -> None:
        """A replica's message has been handled."""
        self._heard_at = now

    def note(self, now: float, *, behind: bool) -> None:
        """`behind`: the kernel lacks something that the replica has."""
        if not behind:
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = now

    def age(self, now: float) -> float:
        """Seconds since a replica's last message, or since the start."""
        return max(0.0, now - self._heard_at)

    def lag(self, now: float) -> float:
        """For how many seconds the kernel has not been known to be at the head; 0 while it is."""
        if self._behind_since is not None:
            return max(0.0, now - self._behind_since)
        age = self.age(now)
        return 0.0 if self.connected and age <= QUIET_SECONDS else age
