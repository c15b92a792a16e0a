"""Mode iptables as `nodeagent.modes` knows it: the shape of `nodeagent.modes.backends.Backend`."""

from __future__ import annotations

from nodeagent.config import Detector, Settings
from nodeagent.config.defaults import PRIMARY
from nodeagent.modes.opened import Opened, interface_of
from nodeagent.program.iptables import cleanup as chains
from nodeagent.program.iptables.dataplane import IptablesDataplane
from nodeagent.program.iptables.probe import probe
from nodeagent.program.iptables.settings import Settings as Iptables
from nodeagent.program.iptables.tools import Flavour

__all__ = ["cleanup", "open_dataplane", "probe"]


def open_dataplane(settings: Settings) -> Opened:
    """See `Backend.open_dataplane`."""
    dataplane = IptablesDataplane(settings=_translated(settings, settings.cluster_cidrs))

    def follow(cidrs: tuple[str, ...]) -> None:
        dataplane.configure(_translated(settings, cidrs))

    def beside() -> tuple[str, ...]:
        return chains.cleanup(flavour for flavour in Flavour if flavour is not dataplane.flavour)

    return Opened(dataplane, follow if settings.detector is Detector.NODE_CIDR else None, beside)


def cleanup(in_use: str = "") -> tuple[str, ...]:  # noqa: ARG001 - no other mode needs it
    """See `Backend.cleanup`."""
    return chains.cleanup()


def _translated(settings: Settings, cluster_cidrs: tuple[str, ...]) -> Iptables:
    networks = tuple(text for text in settings.node_port_addresses if text != PRIMARY)
    return Iptables(
        cluster_cidrs=cluster_cidrs,
        interface=interface_of(settings),
        masquerade_all=settings.masquerade_all,
        masquerade_bit=settings.masquerade_bit,
        localhost_node_ports=settings.configuration.iptables.localhost_node_ports,
        node_port_networks=networks,
        be_liberal=settings.configuration.conntrack.tcp_be_liberal,
    )
