"""How local traffic is told, in the words that every backend's settings have."""

from __future__ import annotations

from collections.abc import Callable

from nodeagent.config import Detector, Settings

CidrFollower = Callable[[tuple[str, ...]], None]
"""Takes the Node's pod CIDRs as they are now."""


def interface_of(settings: Settings) -> str:
    """The interface, or prefix with an asterisk, that local traffic arrives at; empty where addresses tell (I5)."""
    if settings.detector is Detector.BRIDGE:
        return settings.bridge_interface
    return f"{settings.interface_name_prefix}*" if settings.detector is Detector.PREFIX else ""
