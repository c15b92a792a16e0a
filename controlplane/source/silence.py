"""When a source asks its API server whether it is alive: once all its watches have been silent for a while. Pure."""

from __future__ import annotations

from math import inf


class Silence:
    """The silence of all watches together. `after`: seconds of it before the server is asked; times are monotonic."""

    def __init__(self, after: float) -> None:
        self._after = after
        self._watches = 0
        self._heard = 0.0
        self._asked = -inf

    def opened(self, now: float) -> None:
        """A watch begins. Beside others it is no sign of life: its request may never be answered."""
        if not self._watches:
            self._heard = now
        self._watches += 1

    def closed(self) -> None:
        """A watch has ended."""
        self._watches -= 1

    def heard(self, now: float) -> None:
        """The server said something: an object, a bookmark, the head of an answer."""
        self._heard = now

    def asked(self, now: float) -> None:
        """The server is asked: without an answer it is asked again after as much silence, and not before."""
        self._asked = now

    def since(self, now: float) -> bool:
        """Whether something was heard at this time or later."""
        return self._heard >= now

    def lasting(self, now: float) -> float:
        """For how many seconds nothing was heard."""
        return now - self._heard

    def wait(self, now: float) -> float:
        """Seconds until the server is to be asked, if nothing is heard meanwhile; 0: now. Without a watch: `after`."""
        return max(0.0, max(self._heard, self._asked) + self._after - now) if self._watches else self._after
