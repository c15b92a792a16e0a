"""Mode iptables as `nodeagent.dataplane.modes` knows it: the shape of `nodeagent.dataplane.modes.backends.Backend`."""

from __future__ import annotations

from nodeagent.config import Detector, Settings
from nodeagent.config.defaults import PRIMARY
from nodeagent.dataplane.iptables import cleanup as chains
from nodeagent.dataplane.iptables import probe as trial
from nodeagent.dataplane.iptables.dataplane import IptablesDataplane
from nodeagent.dataplane.iptables.settings import Settings as Iptables
from nodeagent.dataplane.iptables.tools import Flavour, plain
from nodeagent.dataplane.modes.opened import Opened, Released, interface_of

__all__ = ["cleanup", "open_dataplane", "probe", "release"]


def probe(settings: Settings | None = None) -> None:  # noqa: ARG001 - nothing that may be set makes a difference
    """See `Backend.probe`."""
    trial.probe()


def open_dataplane(settings: Settings) -> Opened:
    """See `Backend.open_dataplane`."""
    dataplane = IptablesDataplane(settings=_translated(settings, settings.cluster_cidrs))

    def follow(cidrs: tuple[str, ...]) -> None:
        dataplane.configure(_translated(settings, cidrs))

    def beside() -> tuple[str, ...]:
        return chains.cleanup(flavour for flavour in Flavour if flavour is not dataplane.flavour)

    return Opened(dataplane, follow if settings.detector is Detector.NODE_CIDR else None, beside)


def present() -> bool:
    """See `Backend.present`."""
    return chains.present()


def cleanup(in_use: str = "") -> tuple[str, ...]:
    """See `Backend.cleanup`; ipvs mode has chains of the same names, which it has written anew by then."""
    if in_use != "ipvs":
        return chains.cleanup()
    from nodeagent.dataplane.ipvs.rules import CHAINS  # noqa: PLC0415 - that mode is in use

    used = plain()  # that mode asks for no flavour
    others = chains.cleanup(flavour for flavour in Flavour if flavour is not used)
    return others if used is None else (*others, *chains.cleanup((used,), keep=CHAINS))


def release(in_use: str = "") -> Released:
    """See `Backend.release`; the kernel goes on translating the connections that it knows, without the rules."""
    return Released(cleanup(in_use))


def _translated(settings: Settings, cluster_cidrs: tuple[str, ...]) -> Iptables:
    networks = tuple(text for text in settings.node_port_addresses if text != PRIMARY)
    return Iptables(
        cluster_cidrs=cluster_cidrs,
        interface=interface_of(settings),
        node_only=settings.detector is Detector.NODE_CIDR,
        masquerade_all=settings.masquerade_all,
        masquerade_bit=settings.masquerade_bit,
        localhost_node_ports=settings.configuration.iptables.localhost_node_ports,
        node_port_networks=networks,
        be_liberal=settings.configuration.conntrack.tcp_be_liberal,
    )
