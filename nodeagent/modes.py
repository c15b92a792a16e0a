"""The kernel backends by mode; each is imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nodeagent.config import Detector, Settings
from nodeagent.program.dataplane import Dataplane

if TYPE_CHECKING:
    from nodeagent.program.nftables.settings import Settings as Nftables

CidrFollower = Callable[[tuple[str, ...]], None]


def open_dataplane(settings: Settings) -> tuple[Dataplane, CidrFollower | None]:
    """The backend of the mode that is asked for, not started, and what takes the Node's pod CIDRs where they matter."""
    from nodeagent.program.nftables.dataplane import NftablesDataplane

    dataplane = NftablesDataplane(settings=_nftables(settings, settings.cluster_cidrs))

    def follow(cidrs: tuple[str, ...]) -> None:
        dataplane.configure(_nftables(settings, cidrs))

    return dataplane, follow if settings.detector is Detector.NODE_CIDR else None


def cleanup() -> tuple[str, ...]:
    """Removes our tables and kube-proxy's from this network namespace; gives their names. Raises `AgentError`."""
    from nodeagent.program.nftables import cleanup as nftables
    from nodeagent.program.nftables.kernel import NetlinkKernel, unavailable

    kernel = NetlinkKernel()
    try:
        return nftables.cleanup(kernel, (nftables.OURS, nftables.KUBE_PROXY))
    except OSError as error:
        raise unavailable(error, nftables.OURS) from error
    finally:
        kernel.close()


def _nftables(settings: Settings, cluster_cidrs: tuple[str, ...]) -> Nftables:
    from nodeagent.program.nftables.settings import Settings as Nftables

    return Nftables(
        cluster_cidrs=cluster_cidrs,
        interface=interface_of(settings),
        masquerade_all=settings.masquerade_all,
        masquerade_bit=settings.masquerade_bit,
    )


def interface_of(settings: Settings) -> str:
    """The interface, or prefix with an asterisk, that local traffic arrives at; empty where addresses tell (I5)."""
    if settings.detector is Detector.BRIDGE:
        return settings.bridge_interface
    return f"{settings.interface_name_prefix}*" if settings.detector is Detector.PREFIX else ""
