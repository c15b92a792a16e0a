"""Mode nftables as `nodeagent.dataplane.modes` knows it: the shape of `nodeagent.dataplane.modes.backends.Backend`."""

from __future__ import annotations

from nodeagent.config import Detector, Settings
from nodeagent.dataplane.modes.opened import Opened, Released, interface_of
from nodeagent.dataplane.nftables import cleanup as tables
from nodeagent.dataplane.nftables import probe as trial
from nodeagent.dataplane.nftables.dataplane import NftablesDataplane
from nodeagent.dataplane.nftables.kernel import NetlinkKernel, unavailable
from nodeagent.dataplane.nftables.settings import Settings as Nftables
from nodeagent.errors import DataplaneUnavailable

__all__ = ["cleanup", "open_dataplane", "probe", "release"]


def probe(settings: Settings | None = None) -> None:  # noqa: ARG001 - nothing that may be set makes a difference
    """See `Backend.probe`."""
    trial.probe()


def open_dataplane(settings: Settings) -> Opened:
    """See `Backend.open_dataplane`."""
    dataplane = NftablesDataplane(settings=_translated(settings, settings.cluster_cidrs))

    def follow(cidrs: tuple[str, ...]) -> None:
        dataplane.configure(_translated(settings, cidrs))

    def beside() -> tuple[str, ...]:
        return _removed(tables.KUBE_PROXY)

    return Opened(dataplane, follow if settings.detector is Detector.NODE_CIDR else None, beside)


def present() -> bool:
    """See `Backend.present`."""
    return tables.present((tables.OURS, tables.KUBE_PROXY))


def cleanup(in_use: str = "") -> tuple[str, ...]:  # noqa: ARG001 - no other mode needs it
    """See `Backend.cleanup`; the tables are nobody else's."""
    return _removed(tables.OURS, tables.KUBE_PROXY)


def release(in_use: str = "") -> Released:
    """See `Backend.release`; the kernel goes on translating the connections that it knows, without the rules."""
    return Released(cleanup(in_use))


def _removed(*names: str) -> tuple[str, ...]:
    try:
        kernel = NetlinkKernel()
    except DataplaneUnavailable:
        return ()  # where there is no nftables, nothing was left in it
    try:
        return tuple(f"nftables {found}" for found in tables.cleanup(kernel, names))
    except OSError as error:
        raise unavailable(error, tables.OURS) from error
    finally:
        kernel.close()


def _translated(settings: Settings, cluster_cidrs: tuple[str, ...]) -> Nftables:
    return Nftables(
        cluster_cidrs=cluster_cidrs,
        interface=interface_of(settings),
        node_only=settings.detector is Detector.NODE_CIDR,
        masquerade_all=settings.masquerade_all,
        masquerade_bit=settings.masquerade_bit,
    )
