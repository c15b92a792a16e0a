"""Mode iptables as `nodeagent.dataplane.modes` knows it: the shape of `nodeagent.dataplane.modes.backends.Backend`."""

from __future__ import annotations

from nodeagent.config import AgentSettings
from nodeagent.config.defaults import PRIMARY
from nodeagent.dataplane.iptables import cleanup as chains
from nodeagent.dataplane.iptables import kinds
from nodeagent.dataplane.iptables.dataplane import IptablesDataplane
from nodeagent.dataplane.iptables.settings import Settings as Iptables
from nodeagent.dataplane.modes.opened import Opened, Released, local_traffic, opened
from nodeagent.linux.iptables import trial
from nodeagent.linux.iptables.programs import Flavour, plain

__all__ = ["cleanup", "open_dataplane", "probe", "release", "translated"]


def probe(settings: AgentSettings | None = None) -> None:  # noqa: ARG001 - nothing that may be set makes a difference
    """See `Backend.probe`."""
    trial.probe(kinds.required(4))


def open_dataplane(settings: AgentSettings) -> Opened:
    """See `Backend.open_dataplane`."""
    dataplane = IptablesDataplane(settings=translated(settings, settings.cluster_cidrs))

    def beside() -> tuple[str, ...]:
        return chains.cleanup(flavour for flavour in Flavour if flavour is not dataplane.flavour)

    return opened(settings, dataplane, translated, beside)


def present() -> bool:
    """See `Backend.present`."""
    return chains.present()


def kube_proxy_serves() -> bool:
    """Whether kube-proxy's chains are there, with rules. Raises `AgentError`."""
    return chains.filled()


def cleanup(in_use: str = "") -> tuple[str, ...]:
    """See `Backend.cleanup`; ipvs mode has chains of the same names, which it has written anew by then."""
    if in_use != "ipvs":
        return chains.cleanup()
    from nodeagent.dataplane.ipvs.rules import CHAINS

    used = plain()  # that mode asks for no flavour
    others = chains.cleanup(flavour for flavour in Flavour if flavour is not used)
    return others if used is None else (*others, *chains.cleanup((used,), keep=CHAINS))


def release(in_use: str = "") -> Released:
    """See `Backend.release`; the kernel goes on translating the connections that it knows, without the rules."""
    return Released(cleanup(in_use))


def translated(settings: AgentSettings, cluster_cidrs: tuple[str, ...]) -> Iptables:
    """The mode's own settings."""
    networks = tuple(text for text in settings.node_port_addresses if text != PRIMARY)
    return Iptables(
        **local_traffic(settings, cluster_cidrs),
        localhost_node_ports=settings.configuration.iptables.localhost_node_ports,
        node_port_networks=networks,
        be_liberal=settings.configuration.conntrack.tcp_be_liberal,
    )
