"""What the client asks of the agent and the session alone can answer. Base of the agent (`client.Conversation`)."""

from __future__ import annotations

from nodeagent.stream.session import Session


class Conversing:
    """Whoever inherits sets the session."""

    _session: Session

    def lost(self, now: float) -> str | None:
        """Why the stream should be given up, if it should."""
        return self._session.lost(now)

    def excused(self, seconds: float, now: float) -> None:
        """This process did not run for so long until now."""
        self._session.excused(seconds, now)

    def redirect(self) -> tuple[float, tuple[str, ...]] | None:
        """After a GoAway: seconds to wait and where to go."""
        return self._session.redirect()
