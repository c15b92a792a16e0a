"""The kernel backends by mode; each is imported only when it is asked for."""

from __future__ import annotations

from nodeagent.config import Detector, Settings
from nodeagent.program.dataplane import Dataplane


def open_dataplane(settings: Settings) -> Dataplane:
    """The backend of the mode that is asked for, not started."""
    from nodeagent.program.nftables.dataplane import NftablesDataplane
    from nodeagent.program.nftables.settings import Settings as Nftables

    return NftablesDataplane(
        settings=Nftables(
            cluster_cidrs=settings.cluster_cidrs,
            interface=interface_of(settings),
            masquerade_all=settings.masquerade_all,
            masquerade_bit=settings.masquerade_bit,
        )
    )


def interface_of(settings: Settings) -> str:
    """The interface, or prefix with an asterisk, that local traffic arrives at; empty where addresses tell (I5)."""
    if settings.detector is Detector.BRIDGE:
        return settings.bridge_interface
    return f"{settings.interface_name_prefix}*" if settings.detector is Detector.PREFIX else ""
