"""What opening a backend gives, and what their settings have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from nodeagent.config import Detector, Settings
from nodeagent.dataplane.api import Dataplane


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


class Released(NamedTuple):
    """What a mode that is not in use had left: the names of what is removed, and what stays for now.

    `carrying` says what that is: connections go through it, which would end with it; further ones do not come to it.
    """

    removed: tuple[str, ...] = ()
    carrying: tuple[str, ...] = ()


def interface_of(settings: Settings) -> str:
    """The interface, or prefix with an asterisk, that local traffic arrives at; empty where addresses tell (I5)."""
    if settings.detector is Detector.BRIDGE:
        return settings.bridge_interface
    return f"{settings.interface_name_prefix}*" if settings.detector is Detector.PREFIX else ""
