"""Whether probes are told that this replica serves: not while its event loop lags. Pure; the server looks each second.

Readiness alone follows it. A lagging replica is not restarted, since all its agents would have to connect again.
"""

from __future__ import annotations

from math import inf

LAG_SECONDS = 1.0  # the loop may be late by so much
QUIET_SECONDS = 15.0  # without a longer lag until it counts as ready again: three of the readiness probe's periods


class Readiness:
    """Callers pass the time in monotonic seconds."""

    def __init__(self) -> None:
        self.lag = 0.0  # seconds, at the last look
        self._since = -inf  # when it lagged last

    def ready(self, due: float, now: float) -> bool:
        """Says whether to serve, from when the look was due and when it took place."""
        self.lag = max(0.0, now - due)
        if self.lag > LAG_SECONDS:
            self._since = now
        return now - self._since >= QUIET_SECONDS
