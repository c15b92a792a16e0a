"""Mode userspace as `nodeagent.dataplane.modes` knows it: the shape of `nodeagent.dataplane.modes.backends.Backend`."""

from __future__ import annotations

from nodeagent.config import AgentSettings
from nodeagent.dataplane.modes.opened import Opened, Released, local_traffic, opened
from nodeagent.dataplane.userspace import cleanup as redirects
from nodeagent.dataplane.userspace import probe as trial
from nodeagent.dataplane.userspace.dataplane import UserspaceDataplane
from nodeagent.dataplane.userspace.settings import Settings as Userspace

__all__ = ["cleanup", "open_dataplane", "probe", "release"]


def probe(settings: AgentSettings | None = None) -> None:  # noqa: ARG001 - nothing that may be set makes a difference
    """See `Backend.probe`."""
    trial.probe()


def open_dataplane(settings: AgentSettings) -> Opened:
    """See `Backend.open_dataplane`."""
    dataplane = UserspaceDataplane(settings=_translated(settings, settings.cluster_cidrs))
    return opened(settings, dataplane, _translated)


def present() -> bool:
    """See `Backend.present`: without their process, redirects lead nowhere."""
    return False


def cleanup(in_use: str = "") -> tuple[str, ...]:  # noqa: ARG001 - no other mode needs it
    """See `Backend.cleanup`."""
    return redirects.cleanup()


def release(in_use: str = "") -> Released:  # noqa: ARG001 - no other mode needs it
    """See `Backend.release`; an agent that was asked to end carries them until they have ended, or its time is over."""
    removed, used = redirects.release()
    return Released(removed, tuple(f"{address} on the loopback interface" for address in used))


def _translated(settings: AgentSettings, cluster_cidrs: tuple[str, ...]) -> Userspace:
    usual = Userspace()
    return Userspace(
        **local_traffic(settings, cluster_cidrs),
        udp_idle=settings.udp_idle_seconds,
        udp_patience=max(usual.udp_patience, settings.udp_idle_seconds),  # who waits is remembered as long as others
        max_connections=settings.max_connections or usual.max_connections,
        max_flows=settings.max_udp_clients or usual.max_flows,
    )
