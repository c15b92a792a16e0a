"""What opening a backend gives, and what their settings have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from nodeagent.config import Detector, Settings
from nodeagent.program.dataplane import Dataplane


def _nothing() -> tuple[str, ...]:
    return ()


class Opened(NamedTuple):
    """A dataplane that is not started, and what goes along with it."""

    dataplane: Dataplane
    follow: Callable[[tuple[str, ...]], None] | None = None  # takes the Node's pod CIDRs, where they matter
    beside: Callable[[], tuple[str, ...]] = _nothing
    """Removes what kube-proxy left in this very mode that the dataplane does not make its own; gives its names.

    To be called once the dataplane is started and complete. Raises `AgentError`.
    """


def interface_of(settings: Settings) -> str:
    """The interface, or prefix with an asterisk, that local traffic arrives at; empty where addresses tell (I5)."""
    if settings.detector is Detector.BRIDGE:
        return settings.bridge_interface
    return f"{settings.interface_name_prefix}*" if settings.detector is Detector.PREFIX else ""
