"""Whether a stream is still worth keeping: silence, a broken protocol, or a replica that asks to go.

Called by the agent's session for each stream; time is given to it.
"""

from __future__ import annotations

from deltaplane.v1 import delta_pb2 as pb

SILENCE_SECONDS = 30.0
READING_SECONDS = 5.0  # after a pause of this process, it reads for so long before the replica counts as silent


class Liveness:
    """One stream's reasons to end; `redirect` outlives it until it is told."""

    def __init__(self, silence: float = SILENCE_SECONDS) -> None:
        self._silence = silence
        self.violation = ""  # a rule of the protocol the replica broke
        self._heard_at = 0.0
        self._go_away: pb.GoAway | None = None

    def begin(self, now: float) -> None:
        """A stream is open."""
        self.violation = ""
        self._go_away = None
        self._heard_at = now

    def heard(self, now: float) -> None:
        """A message arrived, or has been handled: the time of silence starts now."""
        self._heard_at = now

    def excused(self, seconds: float, now: float) -> None:
        """This process did not run for `seconds`: not the replica's silence, and what it said is yet to be read."""
        reading = now - self._silence + min(READING_SECONDS, self._silence / 2)
        self._heard_at = min(now, max(self._heard_at + seconds, reading))

    def asked_to_go(self, message: pb.GoAway) -> None:
        """The replica wants this agent elsewhere."""
        self._go_away = message

    def lost(self, now: float) -> str | None:
        """Why this stream should be given up, None if it should not."""
        if self.violation:
            return self.violation
        if self._go_away is not None:
            return f"the replica asked to go: {self._go_away.reason}"
        silent = now - self._heard_at
        return f"nothing heard for {silent:.0f} s" if silent > self._silence else None

    def redirect(self) -> tuple[float, tuple[str, ...]] | None:
        """After a GoAway: seconds to wait, and where to go (empty: the agent's own list). Told once."""
        asked, self._go_away = self._go_away, None
        return None if asked is None else (asked.retry_after_ms / 1000, tuple(asked.targets))
