"""Mode nftables as `nodeagent.dataplane.modes` knows it: the shape of `nodeagent.dataplane.modes.backends.Backend`."""

from __future__ import annotations

from nodeagent.config import AgentSettings
from nodeagent.dataplane.modes.opened import Opened, Released, local_traffic, opened
from nodeagent.dataplane.nftables import probe as trial
from nodeagent.dataplane.nftables.dataplane import NftablesDataplane
from nodeagent.dataplane.nftables.settings import Settings as Nftables
from nodeagent.linux.nft import tables

__all__ = ["cleanup", "open_dataplane", "probe", "release"]


OURS = "deltaplane"


def probe(settings: AgentSettings | None = None) -> None:  # noqa: ARG001 - nothing that may be set makes a difference
    """See `Backend.probe`."""
    trial.probe()


def open_dataplane(settings: AgentSettings) -> Opened:
    """See `Backend.open_dataplane`."""
    dataplane = NftablesDataplane(settings=_translated(settings, settings.cluster_cidrs))

    def beside() -> tuple[str, ...]:
        return tables.delete_here(tables.KUBE_PROXY)

    return opened(settings, dataplane, _translated, beside)


def present() -> bool:
    """See `Backend.present`."""
    return tables.any_there((OURS, tables.KUBE_PROXY))


def kube_proxy_serves() -> bool:
    """Whether kube-proxy serves in its own nftables mode."""
    return tables.any_there((tables.KUBE_PROXY,))


def own_cleanup() -> tuple[str, ...]:
    """Removes what is ours, and leaves kube-proxy's. Raises `AgentError`."""
    return tables.delete_here(OURS)


def cleanup(in_use: str = "") -> tuple[str, ...]:  # noqa: ARG001 - no other mode needs it
    """See `Backend.cleanup`; the tables are no other program's."""
    return tables.delete_here(OURS, tables.KUBE_PROXY)


def release(in_use: str = "") -> Released:
    """See `Backend.release`; the kernel goes on translating the connections that it knows, without the rules."""
    return Released(cleanup(in_use))


def _translated(settings: AgentSettings, cluster_cidrs: tuple[str, ...]) -> Nftables:
    return Nftables(
        **local_traffic(settings, cluster_cidrs),
    )
