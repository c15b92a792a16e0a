"""Whether something is followed now, since when, and its failure. A failure is logged once until it changes."""

from __future__ import annotations

from collections.abc import Callable

from deltaplane.once import Once

_ONE = ""


class Standing:
    """`unix_nano` is the clock."""

    def __init__(self, unix_nano: Callable[[], int]) -> None:
        self.since_unix_nano = unix_nano()
        self._unix_nano = unix_nano
        self._said = Once[str]()

    @property
    def failure(self) -> str:
        """The text of the last error while it cannot be followed, else empty."""
        return self._said.text(_ONE)

    def failed(self, text: str) -> bool:
        """Sets the failure; returns whether to log it."""
        if not self.failure:
            self.since_unix_nano = self._unix_nano()
        return self._said.note(_ONE, text)

    def recovered(self) -> bool:
        """Clears the failure; returns whether to log that."""
        if self.failure:
            self.since_unix_nano = self._unix_nano()
        return self._said.clear(_ONE)
