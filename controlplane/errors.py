"""The control plane's errors. Edges translate foreign exceptions into these once, with the cause chained."""

from __future__ import annotations

from deltaplane import redact


class ControlPlaneError(Exception):
    """Base of the control plane's own errors; the text is one line for the operator: what, where, what to do.

    It has no credentials of URLs: `GetStatus` passes it on to whoever may inspect.
    """

    def __init__(self, text: str = "") -> None:
        super().__init__(redact.urls(text))


class SourceError(ControlPlaneError):
    """The source of objects cannot be used (exit code 1 at start)."""


class InvalidObject(ControlPlaneError):
    """One object is malformed: names the object, the field and the reason. The others go on."""
